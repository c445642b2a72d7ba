"""Caches the vectors of inputs, so that a repeated input is not computed again."""

import hashlib
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import cachetools

from services.embedder import requests
from services.embedder.models.model import PreparedInput, Vectors
from services.embedder.models.reading import Reading
from services.embedder.requests import Input

# Approximate bytes of an entry's key and Python objects, besides its vector.
_ENTRY_OVERHEAD = 512
# Approximate bytes of a word in an entry's reading.
_WORD_BYTES = 128


@dataclass(frozen=True)
class CachedVector:
    """An input's vector, float32 [d], exactly as the model computed it."""

    vector: Vectors
    tokens: int
    truncated: bool
    reading: Reading | None = None

    @property
    def size(self) -> int:
        """Bytes that the entry takes."""
        size = self.vector.nbytes + _ENTRY_OVERHEAD
        if self.reading:
            size += sys.getsizeof(self.reading.text) + len(self.reading.words) * _WORD_BYTES
        return size


class VectorCache:
    """An LRU cache of vectors with a limit in bytes. Not thread-safe.

    It stores full vectors, so requests for fewer dimensions share the entry.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: cachetools.LRUCache[Hashable, CachedVector] = cachetools.LRUCache(
            max(1, max_bytes), lambda entry: entry.size
        )

    def get(self, keys: Sequence[Hashable]) -> dict[Hashable, CachedVector]:
        """Return the cached entries among ``keys``, by key."""
        found = ((key, self._entries.get(key)) for key in keys)
        return {key: entry for key, entry in found if entry}

    def put(
        self, vectors: Mapping[Hashable, Vectors], inputs: Mapping[Hashable, PreparedInput]
    ) -> None:
        """Store vectors, float32 [d] by key, and evict the least recently used entries."""
        for key, vector in vectors.items():
            prepared = inputs[key]
            entry = CachedVector(
                vector.copy(), prepared.tokens, prepared.truncated, prepared.reading
            )
            if entry.size <= self._max_bytes:
                self._entries[key] = entry

    @property
    def size(self) -> float:
        """Bytes that all entries take."""
        return self._entries.currsize


def cache_keys(model_digest: str, task: str, inputs: Sequence[Input]) -> list[Hashable]:
    """Return a key for each input. Equal keys mean the same model, task and content."""
    return [(model_digest, task, _content_digest(value)) for value in inputs]


def _content_digest(value: Input) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return hashlib.sha256(requests.modality(value).encode() + data).digest()
