"""Remembers the vectors of inputs, so that what is asked again is not computed again."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import cachetools
import numpy as np
from numpy.typing import NDArray

from services.embedder import requests
from services.embedder.models.model import PreparedInput

# Of an entry's key and objects, beside its numbers.
_OVERHEAD = 512


@dataclass(frozen=True)
class Kept:
    """An input's vector, float32 [dimensions], as the model gave it: not cut, not normalised."""

    row: NDArray[np.float32]
    tokens: int
    truncated: bool

    @property
    def size(self) -> int:
        """Bytes that it takes up."""
        return self.row.nbytes + _OVERHEAD


class Memory:
    """The vectors that were asked for last, bounded in bytes; for one thread alone.

    A cut to fewer dimensions is made of the whole vector, so that all cuts share an entry.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: cachetools.LRUCache[Hashable, Kept] = cachetools.LRUCache(
            max(1, limit), lambda kept: kept.size
        )

    def recall(self, keys: Sequence[Hashable]) -> dict[Hashable, Kept]:
        """Return what is remembered of these."""
        found = ((key, self._kept.get(key)) for key in keys)
        return {key: kept for key, kept in found if kept}

    def keep(
        self, rows: Mapping[Hashable, NDArray[np.float32]], items: Mapping[Hashable, PreparedInput]
    ) -> None:
        """Remember vectors, and forget those that were not asked for the longest."""
        for key, row in rows.items():
            item = items[key]
            kept = Kept(row.copy(), item.tokens, item.truncated)
            if kept.size <= self._limit:
                self._kept[key] = kept

    @property
    def size(self) -> float:
        """Bytes that are taken up."""
        return self._kept.currsize


def keys(digest: str, task: str, inputs: Sequence[str | bytes]) -> list[Hashable]:
    """Return keys that are equal where model, task and input are."""
    return [(digest, task, _fingerprint(value)) for value in inputs]


def _fingerprint(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return hashlib.sha256(requests.modality(value).encode() + data).digest()
