"""Text models on CUDA: half weights, and a graph for each shape that batches are padded to.

A small model on a large GPU spends its time on launching kernels. So batches are padded to a few
shapes, and the kernels of each shape are captured once and replayed at once. Each lane is a stream
of its own with buffers in pinned memory, so that one copies and fills while another computes.
"""

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from services.embedder.models.runtimes import Rows, TokenIds, fill

log = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Batches are padded to these sizes; beyond, to multiples of the last.
_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# torch asks for a few runs before a capture, so that libraries have set themselves up.
_WARM_UP = 3


class Shape(Protocol):
    """Computes batches of one shape, out of its own buffers: int64 [rows, length] on the host."""

    ids: torch.Tensor
    mask: torch.Tensor

    def run(self) -> Rows:
        """Compute what the buffers hold: float32 [rows, dimensions], valid until the next run."""
        ...


class CudaGraphRuntime:
    """A text model, computed by CUDA graphs.

    Args:
        model: of sentence-transformers; it is copied.
        pad: the token that fills short rows.
        dtype: of the transformer; pooling and what follows stay in float32.
    """

    name = "cuda"
    workers = 4
    batch_tokens = 16_384

    def __init__(self, model: Any, pad: int, dtype: torch.dtype) -> None:
        self.dtype = str(dtype).removeprefix("torch.")
        self._forward, self._pad = halved(model, dtype), pad
        self._limit = int(model.max_seq_length or _LENGTHS[-1])
        self._thread = threading.local()

    def compute(self, batch: Sequence[TokenIds]) -> Rows:
        """Run the graph of the batch's shape in this thread's stream."""
        lane = getattr(self._thread, "lane", None)
        if lane is None:
            lane = self._thread.lane = Shapes(_stream(self._forward), self._pad, self._limit)
        return lane.compute(batch)


class Shapes:
    """One lane's shapes, made when they first come.

    Args:
        make: makes the shape of so many rows and so much length.
        pad: the token that fills short rows.
        limit: the most length; batches that are longer are computed as they are.
    """

    def __init__(self, make: Callable[[int, int], Shape], pad: int, limit: int) -> None:
        self._make, self._pad, self._limit = make, pad, limit
        self._made: dict[tuple[int, int], Shape] = {}

    def compute(self, batch: Sequence[TokenIds]) -> Rows:
        """Compute a batch in the smallest shape that holds it."""
        longest = max(map(len, batch))
        length = max(longest, min(ceiling(_LENGTHS, longest), self._limit))
        size = ceiling(_ROWS, len(batch)), length
        shape = self._made.get(size)
        if shape is None:
            shape = self._made[size] = self._make(*size)
        fill(batch, self._pad, shape.ids.numpy(), shape.mask.numpy())
        return np.array(shape.run()[: len(batch)], np.float32)


def ceiling(sizes: Sequence[int], size: int) -> int:
    """Return the least of ``sizes`` that is not below ``size``, or a multiple of the last."""
    return next((one for one in sizes if one >= size), -(-size // sizes[-1]) * sizes[-1])


def halved(model: Any, dtype: torch.dtype) -> Forward:
    """Return a copy of a sentence-transformers model whose transformer computes in ``dtype``.

    Pooling sums over many tokens, so that it and what follows compute in float32.
    """
    first, *rest = copy.deepcopy(model).eval()
    first.to(dtype)

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        features = first({"input_ids": ids, "attention_mask": mask})
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in rest:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        return vectors.float()

    return forward


# Two captures at once, or one while a device is waited for, are refused by CUDA.
_capturing = threading.Lock()


def _stream(forward: Forward) -> Callable[[int, int], Shape]:
    """Return what captures shapes for a stream, and a pool of memory, of their own."""
    stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()

    def make(rows: int, length: int) -> Shape:
        try:
            with _capturing, torch.inference_mode():
                return _Graph(forward, (rows, length), stream, pool)
        except Exception:
            log.exception("a graph cannot be captured", extra={"rows": rows, "length": length})
            return Eager(forward, (rows, length), stream)

    return make


class Eager:
    """A shape that is computed kernel by kernel, on any device; ``stream`` is for CUDA alone."""

    def __init__(
        self, forward: Forward, size: tuple[int, int], stream: "torch.cuda.Stream | None" = None
    ) -> None:
        self._forward, self._stream = forward, stream
        pinned = stream is not None
        self.ids = torch.zeros(size, dtype=torch.int64, pin_memory=pinned)
        self.mask = torch.ones(size, dtype=torch.int64, pin_memory=pinned)

    def run(self) -> Rows:
        """Copy, compute, copy back."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            device = self._stream.device if self._stream else "cpu"
            inputs = (one.to(device, non_blocking=True) for one in (self.ids, self.mask))
            rows: Rows = self._forward(*inputs).cpu().numpy()
        return rows


class _Graph:
    """A shape whose kernels were captured, and are replayed at once."""

    def __init__(
        self, forward: Forward, size: tuple[int, int], stream: torch.cuda.Stream, pool: Any
    ) -> None:
        self._stream, self._graph = stream, torch.cuda.CUDAGraph()
        self.ids = torch.zeros(size, dtype=torch.int64, pin_memory=True)
        self.mask = torch.ones(size, dtype=torch.int64, pin_memory=True)
        with torch.cuda.stream(stream):
            self._ids, self._mask = self.ids.to(stream.device), self.mask.to(stream.device)
            for _ in range(_WARM_UP):
                forward(self._ids, self._mask)
        stream.synchronize()
        with torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"):
            self._rows = forward(self._ids, self._mask)
        self._found = torch.zeros(self._rows.shape, dtype=torch.float32, pin_memory=True)

    def run(self) -> Rows:
        """Copy, replay, copy back; the thread waits for its own stream alone."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._ids.copy_(self.ids, non_blocking=True)
            self._mask.copy_(self.mask, non_blocking=True)
            self._graph.replay()
            self._found.copy_(self._rows, non_blocking=True)
        self._stream.synchronize()
        rows: Rows = self._found.numpy()
        return rows
