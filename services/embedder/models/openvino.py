"""OpenVINO, on what torch's model was converted to; conversions are kept on disk."""

import logging
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.embedder.cpu import available_cores
from services.embedder.models.runtimes import Rows, TokenIds, padded

log = logging.getLogger(__name__)

_LANES_LIMIT = 16
# Counted up when a conversion comes to mean something else.
_VERSION = 1


class OpenVinoRuntime:
    """A converted model on this machine's processor, a stream of one thread for each core.

    Streams of one thread waste no time waiting for each other, so that a large batch is best cut
    in two. One text that has the machine to itself is computed on all cores.

    Args:
        model: from ``convert``.
        pad: the token that fills short rows.
        dtype: ``float32``; ``bfloat16``; ``int8`` for products in 8 bits, see ``quantise``. A
            token's numbers have scales of their own, so that a text's vector does not depend on
            its batch, as it would with one scale for all.
        half: compute what is not of 8 bits in bfloat16.
    """

    name = "openvino"
    # Of those tried (128 to 2,048) the fastest: what a layer hands on stays in a core's cache.
    batch_tokens = 384

    def __init__(self, model: Any, pad: int, dtype: str = "float32", *, half: bool = False) -> None:
        available = available_cores()
        self.workers = min(available, _LANES_LIMIT)
        self.dtype = dtype
        self._pad, self._thread = pad, threading.local()
        core = openvino().Core()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": available,
            # Kernels that are made of several operations, such as a whole attention, are slower for
            # short texts, and their vectors depend on the batch: cosine .9996 where it is now 1.
            "SNIPPETS_MODE": "DISABLE",
        }
        if dtype == "int8":
            from services.embedder.models.openvino_int8 import quantise  # noqa: PLC0415 - openvino()

            model, options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = quantise(model)
        self._shared = core.compile_model(model, "CPU", options | {"NUM_STREAMS": self.workers})
        self._whole = core.compile_model(model, "CPU", options | {"NUM_STREAMS": 1})
        self._busy, self._lock = 0, threading.Lock()

    def compute(self, batch: Sequence[TokenIds]) -> Rows:
        """Run the model in one of its streams, or on all cores if nothing else runs."""
        with self._lock:
            self._busy += 1
            alone = len(batch) == self._busy == 1
        try:
            request = self._request("whole" if alone else "shared")
            found = request.infer(padded(batch, self._pad), share_inputs=True, share_outputs=True)
            return np.array(found[0], np.float32)
        finally:
            with self._lock:
                self._busy -= 1

    def _request(self, name: str) -> Any:
        """Return this thread's own request."""
        request = getattr(self._thread, name, None)
        if request is None:
            compiled = self._whole if name == "whole" else self._shared
            request = compiled.create_infer_request()
            setattr(self._thread, name, request)
        return request


def openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report every start to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as module  # noqa: PLC0415 - it takes a second, so only where it is used

    return module


def convert(model: Any, exports: Path, digest: str) -> Any:
    """Read a model's conversion from ``exports``, or make it and keep it there.

    Args:
        model: a sentence-transformers model for text.
        exports: a folder; that nothing can be written there is no error.
        digest: of the model.
    """
    ov = openvino()
    release = ov.get_version().partition("-")[0]
    file = exports / digest[:32] / f"openvino-{release}-{_VERSION}" / "model.xml"
    if file.is_file():
        try:
            return ov.Core().read_model(file)
        except RuntimeError:
            log.warning("a conversion is damaged and made again", extra={"file": str(file)})
            shutil.rmtree(file.parent, ignore_errors=True)
    example = (torch.ones((2, 5), dtype=torch.int64),) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of branches that the trial then checks
        converted = ov.convert_model(_Flat(model), example_input=example)
    try:
        _keep(file, lambda path: ov.save_model(converted, path, compress_to_fp16=False))
    except OSError as error:
        log.warning("a conversion cannot be kept: %s", error)
    return converted


class _Flat(torch.nn.Module):
    """A sentence-transformers model with tensors for arguments, as tracing wants it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return vectors [n, dimensions]."""
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        vectors: torch.Tensor = self.model(features)["sentence_embedding"]
        return vectors


def _keep(file: Path, save: Callable[[Path], None]) -> None:
    """Write into a folder beside and rename that, so that nobody ever reads half a file."""
    file.parent.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=file.parent.parent))
    try:
        save(beside / file.name)
        beside.rename(file.parent)
    except OSError:
        if not file.is_file():  # else somebody else was faster
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
