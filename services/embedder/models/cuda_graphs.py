"""The CUDA runtime for text models: half precision, and a CUDA graph for each batch shape.

A small model on a large GPU spends most of its time on kernel launches. So batches are padded to a
few shapes, and the kernels of each shape are captured once and replayed with one launch. Each
worker has a stream and buffers in pinned memory, so one can copy while another computes.
"""

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from services.embedder.models.model import Vectors
from services.embedder.models.runtimes import TokenIds, write_padded

log = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Batches are padded to these sizes; larger ones to multiples of the last.
_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# Runs before a capture, so that libraries are initialised:
# https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
_WARM_UP_RUNS = 3


class ShapeRunner(Protocol):
    """Computes batches of one shape from its buffers, int64 [rows, length] on the host."""

    ids: torch.Tensor
    mask: torch.Tensor

    def run(self) -> Vectors:
        """Compute the buffers' content, float32 [rows, dimensions]; valid until the next run."""
        ...


class CudaGraphRuntime:
    """Computes a text model with CUDA graphs.

    Args:
        model: a sentence-transformers model; it is copied.
        pad_token: the id that fills short rows.
        dtype: the transformer's data type; pooling and later modules compute in float32.
    """

    name = "cuda"
    workers = 4
    batch_tokens = 16_384

    def __init__(self, model: Any, pad_token: int, dtype: torch.dtype) -> None:
        self.dtype = str(dtype).removeprefix("torch.")
        self._forward, self._pad_token = cast_transformer(model, dtype), pad_token
        self._max_length = int(model.max_seq_length or _LENGTHS[-1])
        self._thread = threading.local()

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        """Compute a batch in the calling thread's stream."""
        runners = getattr(self._thread, "runners", None)
        if runners is None:
            create = _graph_factory(self._forward)
            runners = self._thread.runners = ShapeRunners(create, self._pad_token, self._max_length)
        return runners.compute(batch)


class ShapeRunners:
    """The runners of one worker, each created when its shape first occurs.

    Args:
        create: creates a runner for a number of rows and a length.
        pad_token: the id that fills short rows.
        max_length: maximum length of the shapes; a longer batch keeps its own length.
    """

    def __init__(
        self, create: Callable[[int, int], ShapeRunner], pad_token: int, max_length: int
    ) -> None:
        self._create, self._pad_token, self._max_length = create, pad_token, max_length
        self._runners: dict[tuple[int, int], ShapeRunner] = {}

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        """Compute a batch in the smallest shape that it fits into."""
        longest = max(map(len, batch))
        length = max(longest, min(round_up(longest, _LENGTHS), self._max_length))
        shape = round_up(len(batch), _ROWS), length
        runner = self._runners.get(shape)
        if runner is None:
            runner = self._runners[shape] = self._create(*shape)
        write_padded(batch, self._pad_token, runner.ids.numpy(), runner.mask.numpy())
        return np.array(runner.run()[: len(batch)], np.float32)


def round_up(size: int, sizes: Sequence[int]) -> int:
    """Return the smallest of ``sizes`` that is at least ``size``, or a multiple of the last."""
    return next((one for one in sizes if one >= size), -(-size // sizes[-1]) * sizes[-1])


def cast_transformer(model: Any, dtype: torch.dtype) -> Forward:
    """Return the forward pass of a copy of a model whose transformer computes in ``dtype``.

    Pooling sums over many tokens, so it and later modules compute in float32.

    Args:
        model: a sentence-transformers model whose first module is its transformer.
        dtype: the transformer's data type.

    Returns:
        A function of token ids and attention mask, int64 [n, length], that returns float32
        [n, dimensions].
    """
    transformer, *rest = copy.deepcopy(model).eval()
    transformer.to(dtype)

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        features = transformer({"input_ids": ids, "attention_mask": mask})
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in rest:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        return vectors.float()

    return forward


# CUDA does not allow two captures at once, or a device synchronisation during a capture.
_capture_lock = threading.Lock()


def _graph_factory(forward: Forward) -> Callable[[int, int], ShapeRunner]:
    """Return a factory of runners that share a new stream and a new memory pool."""
    stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()

    def create(rows: int, length: int) -> ShapeRunner:
        try:
            with _capture_lock, torch.inference_mode():
                return _GraphRunner(forward, (rows, length), stream, pool)
        except Exception:
            log.exception("a CUDA graph cannot be captured", extra={"rows": rows, "length": length})
            return EagerRunner(forward, (rows, length), stream)

    return create


class EagerRunner:
    """Launches the kernels one by one, on any device. ``stream`` is used only on CUDA."""

    def __init__(
        self, forward: Forward, shape: tuple[int, int], stream: "torch.cuda.Stream | None" = None
    ) -> None:
        self._forward, self._stream = forward, stream
        pinned = stream is not None
        self.ids = torch.zeros(shape, dtype=torch.int64, pin_memory=pinned)
        self.mask = torch.ones(shape, dtype=torch.int64, pin_memory=pinned)

    def run(self) -> Vectors:
        """Copy the inputs, compute, and copy the vectors back."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            device = self._stream.device if self._stream else "cpu"
            inputs = (one.to(device, non_blocking=True) for one in (self.ids, self.mask))
            vectors: Vectors = self._forward(*inputs).cpu().numpy()
        return vectors


class _GraphRunner:
    """Replays the captured kernels of a shape with one launch."""

    def __init__(
        self, forward: Forward, shape: tuple[int, int], stream: torch.cuda.Stream, pool: Any
    ) -> None:
        self._stream, self._graph = stream, torch.cuda.CUDAGraph()
        self.ids = torch.zeros(shape, dtype=torch.int64, pin_memory=True)
        self.mask = torch.ones(shape, dtype=torch.int64, pin_memory=True)
        with torch.cuda.stream(stream):
            self._ids, self._mask = self.ids.to(stream.device), self.mask.to(stream.device)
            for _ in range(_WARM_UP_RUNS):
                forward(self._ids, self._mask)
        stream.synchronize()
        with torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"):
            self._device_vectors = forward(self._ids, self._mask)
        size = self._device_vectors.shape
        self._host_vectors = torch.zeros(size, dtype=torch.float32, pin_memory=True)

    def run(self) -> Vectors:
        """Copy the inputs, replay, and copy the vectors back; wait only for this stream."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._ids.copy_(self.ids, non_blocking=True)
            self._mask.copy_(self.mask, non_blocking=True)
            self._graph.replay()
            self._host_vectors.copy_(self._device_vectors, non_blocking=True)
        self._stream.synchronize()
        vectors: Vectors = self._host_vectors.numpy()
        return vectors
