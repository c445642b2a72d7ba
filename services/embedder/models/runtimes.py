"""What computes a text model: the protocol, and torch."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

TokenIds = Sequence[int]
Rows = NDArray[np.float32]


class Runtime(Protocol):
    """Computes a text model; ``workers`` threads may call it at once, each with its own batch.

    ``batch_tokens`` is the size of batch that suits it, padding counted in.
    """

    name: str
    dtype: str
    workers: int
    batch_tokens: int

    def compute(self, batch: Sequence[TokenIds]) -> Rows:
        """Return vectors, float32 [n, dimensions]."""
        ...


def best_device() -> str:
    """Return where torch computes fastest here: ``cuda``, ``mps`` or ``cpu``."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class TorchRuntime:
    """A sentence-transformers model as it is; half means autocast to bfloat16."""

    name = "torch"
    workers = 1
    batch_tokens = 8192

    def __init__(self, model: Any, pad: int, *, half: bool = False) -> None:
        self._model, self._pad, self._half = model, pad, half
        self._device = torch.device(model.device)
        self.dtype = "bfloat16" if half else "float32"

    def compute(self, batch: Sequence[TokenIds]) -> Rows:
        """Run the model's modules, without the loops of SentenceTransformer.encode."""
        ids, mask = (torch.from_numpy(part).to(self._device) for part in padded(batch, self._pad))
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._half),
        ):
            found = self._model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
        return np.asarray(found.float().cpu().numpy(), np.float32)


def padded(batch: Sequence[TokenIds], pad: int) -> list[NDArray[np.int64]]:
    """Return token ids and attention mask, both int64 [n, longest]."""
    size = len(batch), max(map(len, batch))
    ids, mask = np.empty(size, np.int64), np.empty(size, np.int64)
    fill(batch, pad, ids, mask)
    return [ids, mask]


def fill(
    batch: Sequence[TokenIds], pad: int, ids: NDArray[np.int64], mask: NDArray[np.int64]
) -> None:
    """Write token ids and attention mask over buffers of at least that shape.

    Rows that are left over have one token each, so that no row attends to nothing.
    """
    lengths = np.ones(len(ids), np.int64)
    lengths[: len(batch)] = np.fromiter(map(len, batch), np.int64, len(batch))
    np.less(np.arange(ids.shape[1]), lengths[:, None], out=mask, casting="unsafe")
    ids.fill(pad)
    own = ids[: len(batch)]
    own[mask[: len(batch)] > 0] = np.fromiter(
        (token for tokens in batch for token in tokens), np.int64
    )
