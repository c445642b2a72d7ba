"""The OpenVINO runtime for this machine's processor, and the conversion of torch models for it."""

import contextlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from services.embedder.cpu import available_cores
from services.embedder.models.model import Vectors
from services.embedder.models.runtimes import TokenIds, pad_batch

log = logging.getLogger(__name__)

# OpenVINO keeps the kernels for each shape of a batch. By default it keeps 5,000, which took
# more than a gigabyte after 1,500 batches of random lengths, and ever more. With 128, the memory
# stays at 450 MB, and texts of 40 recurring lengths are about as fast. With 32, they take twice as
# long.
CACHED_KERNELS = 128
_MAX_WORKERS = 16
# Incremented when the conversion changes.
_VERSION = 1


class OpenVinoRuntime:
    """Runs a converted model on one single-threaded stream per core.

    Single-threaded streams never wait for each other, so it is best to split a large batch. If
    nothing else is running, all cores compute a single text.

    Args:
        model: from ``convert``.
        pad_token: the id that fills short rows.
        dtype: ``float32``, ``bfloat16``, or ``int8`` for matrix products in 8 bits (see
            ``quantise``). Each token's activations have their own int8 scales, so that a text's
            vector does not depend on its batch, as it would with one scale for the whole batch.
        half: use bfloat16 for everything that is not computed in 8 bits.
        probe: the file of the conversion, to compile it in another process first, and to fail if
            that process crashes.
    """

    name = "openvino"
    # The fastest of the sizes from 128 to 2,048, because a layer's output stays in a core's cache.
    batch_tokens = 384

    def __init__(
        self,
        model: Any,
        pad_token: int,
        dtype: str = "float32",
        *,
        half: bool = False,
        probe: Path | None = None,
    ) -> None:
        available = available_cores()
        self.workers = min(available, _MAX_WORKERS)
        self.dtype = dtype
        self._pad_token, self._thread = pad_token, threading.local()
        core = import_openvino().Core()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": available,
            # Fused kernels, such as a whole attention layer, are slower for short texts. They also
            # make a vector depend on its batch (a cosine of .9996 instead of 1).
            "SNIPPETS_MODE": "DISABLE",
            "CPU_RUNTIME_CACHE_CAPACITY": CACHED_KERNELS,
        }
        if dtype == "int8":
            # The module imports openvino, which import_openvino() must do first.
            from services.embedder.models.openvino_int8 import quantise  # noqa: PLC0415

            model, options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = quantise(model)
        if probe:
            _probe(probe, options | {"NUM_STREAMS": self.workers})
        self._one_core = core.compile_model(model, "CPU", options | {"NUM_STREAMS": self.workers})
        self._all_cores = core.compile_model(model, "CPU", options | {"NUM_STREAMS": 1})
        self._running, self._lock = 0, threading.Lock()

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        """Compute a batch on one core, or a single text on all cores if nothing else is running."""
        with self._lock:
            self._running += 1
            alone = len(batch) == self._running == 1
        try:
            request = self._request("all_cores" if alone else "one_core")
            outputs = request.infer(
                pad_batch(batch, self._pad_token), share_inputs=True, share_outputs=True
            )
            return np.array(outputs[0], np.float32)
        finally:
            with self._lock:
                self._running -= 1

    def _request(self, name: str) -> Any:
        """Return the calling thread's inference request."""
        request = getattr(self._thread, name, None)
        if request is None:
            compiled = self._all_cores if name == "all_cores" else self._one_core
            request = compiled.create_infer_request()
            setattr(self._thread, name, request)
        return request


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report every start to its vendor."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as module  # noqa: PLC0415 - the import takes a second

    # The bindings set up NumPy at their first use, and deadlock if two threads do so at once
    # (pybind11's npy_api waits for the interpreter's lock inside a static initialiser).
    module.Tensor(np.zeros(1, np.float32))
    return module


def _probe(file: Path, options: dict[str, Any]) -> None:
    """Raise an error if a process that compiles the model crashes.

    On processors with AMX, OpenVINO 2026.4 divides by zero when it compiles the layers of Qwen3 in
    bfloat16 for single-threaded streams, which ends the process.
    """
    script = Path(__file__).with_name("openvino_probe.py")
    command = [sys.executable, "-P", str(script), str(file), json.dumps(options)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own script


def uses_rotary_positions(model: Any) -> bool:
    """Return whether a model's transformer rotates queries and keys by their positions."""
    return any(getattr(one.config, "rope_parameters", None) for one in _transformers(model))


def convert(model: Any, cache_folder: Path, digest: str) -> Any:
    """Read a saved conversion of a model, or convert the model and save the conversion.

    Args:
        model: a sentence-transformers model for text.
        cache_folder: the folder of conversions; if it is not writable, that is only logged.
        digest: the model's digest.
    """
    ov = import_openvino()
    file = converted_file(model, cache_folder, digest)
    if file.is_file():
        try:
            return ov.Core().read_model(file)
        except RuntimeError:
            log.warning(
                "a saved conversion is damaged; converting again", extra={"file": str(file)}
            )
            shutil.rmtree(file.parent, ignore_errors=True)
    example = (torch.ones((2, 5), dtype=torch.int64),) * 2
    with warnings.catch_warnings(), _finite_masks(model):
        # The tracer warns about data-dependent branches; the runtime's trial checks the vectors.
        warnings.simplefilter("ignore")
        converted = ov.convert_model(_Traceable(model), example_input=example)
    try:
        save_atomically(file, lambda path: ov.save_model(converted, path, compress_to_fp16=False))
    except OSError as error:
        log.warning("a conversion cannot be saved: %s", error)
    return converted


def _transformers(model: Any) -> list[PreTrainedModel]:
    return [one for one in model.modules() if isinstance(one, PreTrainedModel)]


def _has_window(transformer: PreTrainedModel) -> bool:
    """Return whether some layers attend only to near tokens."""
    windows = (
        getattr(transformer.config, name, None) for name in ("sliding_window", "local_attention")
    )
    return any(windows)


@contextlib.contextmanager
def _finite_masks(model: Any) -> Iterator[None]:
    """Let transformers with windows add finite numbers to the scores of tokens that are masked.

    All tokens in the window of a padding token may be padding. OpenVINO's softmax over nothing is
    NaN, and the next layer spreads it to all tokens.
    """
    changed = [
        (one, one.config._attn_implementation) for one in _transformers(model) if _has_window(one)
    ]
    for transformer, _ in changed:
        transformer.set_attn_implementation(_FINITE)
    try:
        yield
    finally:
        for transformer, implementation in changed:
            transformer.set_attn_implementation(implementation)


def _finite_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> Any:
    """Compute attention as transformers' ``sdpa`` does, but with a mask of finite numbers."""
    if attention_mask is not None:
        attention_mask = torch.where(attention_mask, 0.0, torch.finfo(query.dtype).min)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


_FINITE = "memetwin-finite"
AttentionInterface.register(_FINITE, _finite_attention)
AttentionMaskInterface.register(_FINITE, sdpa_mask)


def converted_file(model: Any, cache_folder: Path, digest: str) -> Path:
    """Return the main file of a saved conversion. For the arguments see ``convert``."""
    release = import_openvino().get_version().partition("-")[0]
    windows = any(map(_has_window, _transformers(model)))
    version = f"{release}-{_VERSION}" + ("-window" if windows else "")
    return cache_folder / digest[:32] / f"openvino-{version}" / "model.xml"


class _Traceable(torch.nn.Module):
    """A sentence-transformers model whose arguments are tensors, as tracing requires."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return vectors [n, dimensions]."""
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        vectors: torch.Tensor = self.model(features)["sentence_embedding"]
        return vectors


def save_atomically(file: Path, save: Callable[[Path], None]) -> None:
    """Save files in a temporary folder and rename it, so that readers see all files or none.

    Args:
        file: the main file; its folder is the one that appears.
        save: writes the main file at the given path, and other files beside it.

    Raises:
        OSError: the folder cannot be written.
    """
    file.parent.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=file.parent.parent))
    try:
        save(temporary / file.name)
        temporary.rename(file.parent)
    except OSError:
        if not file.is_file():  # otherwise another process saved it first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
