"""The protocol of a runtime, which computes a text model, and the runtime of torch."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from services.embedder.models.model import Vectors

TokenIds = Sequence[int]
# OpenVINO keeps the attention scores of all pairs of tokens. For 12 heads and 4,096 tokens, a text
# takes 3 GiB. torch does not keep them.
MAX_SHORT_TOKENS = 1024


class Runtime(Protocol):
    """Computes a text model.

    Attributes:
        name: for example ``openvino``.
        dtype: the data type that it computes in.
        workers: threads that may call ``compute`` at the same time.
        batch_tokens: the batch size that suits it, in tokens with padding.
    """

    name: str
    dtype: str
    workers: int
    batch_tokens: int

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        """Compute the vectors of tokenised texts, float32 [n, dimensions]."""
        ...


def best_device() -> str:
    """Return the fastest torch device of this machine: ``cuda``, ``mps`` or ``cpu``."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class TorchRuntime:
    """Runs the modules of a sentence-transformers model.

    Args:
        model: a sentence-transformers model for text.
        pad_token: the id that fills short rows.
        half: autocast to bfloat16.
    """

    name = "torch"
    workers = 1
    batch_tokens = 8192

    def __init__(self, model: Any, pad_token: int, *, half: bool = False) -> None:
        self._model, self._pad_token, self._half = model, pad_token, half
        self._device = torch.device(model.device)
        self.dtype = "bfloat16" if half else "float32"

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        """Compute vectors, without the sorting and batching of SentenceTransformer.encode."""
        padded = pad_batch(batch, self._pad_token)
        ids, mask = (torch.from_numpy(part).to(self._device) for part in padded)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._half),
        ):
            output = self._model({"input_ids": ids, "attention_mask": mask})
        return np.asarray(output["sentence_embedding"].float().cpu().numpy(), np.float32)


class SplitByLength:
    """Computes long texts with a second runtime, one batch at a time.

    Args:
        short: computes batches of texts of up to ``MAX_SHORT_TOKENS``.
        long: computes the other batches, whose vectors must agree.
    """

    def __init__(self, short: Runtime, long: Runtime) -> None:
        self._short, self._long, self._lock = short, long, threading.Lock()
        self.name, self.dtype = short.name, short.dtype
        self.workers, self.batch_tokens = short.workers, short.batch_tokens

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        """Compute the vectors of tokenised texts, float32 [n, dimensions]."""
        if max(map(len, batch)) <= MAX_SHORT_TOKENS:
            return self._short.compute(batch)
        with self._lock:
            return self._long.compute(batch)


def pad_batch(batch: Sequence[TokenIds], pad_token: int) -> list[NDArray[np.int64]]:
    """Return the token ids and the attention mask, both int64 [n, longest]."""
    shape = len(batch), max(map(len, batch))
    ids, mask = np.empty(shape, np.int64), np.empty(shape, np.int64)
    write_padded(batch, pad_token, ids, mask)
    return [ids, mask]


def write_padded(
    batch: Sequence[TokenIds], pad_token: int, ids: NDArray[np.int64], mask: NDArray[np.int64]
) -> None:
    """Write the token ids and the attention mask of a batch into larger buffers.

    Each unused row attends to one token, because attention over no tokens is undefined.

    Args:
        batch: tokenised texts.
        pad_token: the id that fills short rows.
        ids: int64 [at least n, at least longest]; it is overwritten.
        mask: as ``ids``.
    """
    lengths = np.ones(len(ids), np.int64)
    lengths[: len(batch)] = np.fromiter(map(len, batch), np.int64, len(batch))
    np.less(np.arange(ids.shape[1]), lengths[:, None], out=mask, casting="unsafe")
    ids.fill(pad_token)
    used = ids[: len(batch)]
    used[mask[: len(batch)] > 0] = np.fromiter(
        (token for tokens in batch for token in tokens), np.int64
    )
