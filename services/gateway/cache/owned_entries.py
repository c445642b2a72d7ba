"""Finds and deletes the cache entries of a tenant or of a user, whatever their namespaces are."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from services.gateway.backends.search import SearchClient
from services.gateway.cache.index import collection_name
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Scope
from services.gateway.redis_store import as_bytes, one_slot, redis_errors

log = logging.getLogger(__name__)

_SCAN_COUNT = 500
_BATCH_SIZE = 500


@dataclass(frozen=True)
class Found:
    """Entries, by the model digest of their vectors and by their partition.

    Attributes:
        entries: the ids of the entries, by digest and partition.
        scopes: the scopes of the partitions.
    """

    entries: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    scopes: dict[str, Scope] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of entries."""
        return sum(map(len, self.entries.values()))


class OwnedEntries:
    """Finds and deletes entries. Every method raises Unavailable if Redis or search fails.

    It reads the keys of ``gdsf``.
    """

    def __init__(self, redis: Redis, prefix: str, store: CacheStore, search: SearchClient) -> None:
        self._redis: Any = redis
        self._weights = one_slot(redis, f"{prefix}gateway:") + "weights"
        self._store = store
        self._search = search

    async def find(self, owns: Callable[[Scope], bool]) -> Found:
        """Return the entries of all scopes that ``owns`` selects.

        It reads a record of each partition, which tells the partition's scope.
        """
        found = Found()
        others: set[str] = set()
        cursor, more = 0, True
        while more:
            async with redis_errors():
                cursor, rows = await self._redis.hscan(self._weights, cursor, count=_SCAN_COUNT)
            more = cursor != 0
            for key, row in rows.items():
                entry_id, (partition, digest) = as_bytes(key).decode(), _place(row)
                if partition not in found.scopes and partition not in others:
                    scope = await self._scope(entry_id)
                    if scope is None:  # it has expired, and its partition may have another entry
                        continue
                    if owns(scope):
                        found.scopes[partition] = scope
                    else:
                        others.add(partition)
                if partition in found.scopes:
                    found.entries[digest, partition].append(entry_id)
        return found

    async def delete(self, found: Found) -> None:
        """Delete entries, first from the store: entries that it does not have are never served."""
        for entry_ids in found.entries.values():
            for batch in _batches(entry_ids):
                await self._store.delete(batch)
        leaving: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for entry_id, (digest, partition) in (await self._store.removed()).items():
            if partition in found.scopes:
                leaving[digest, partition].append(entry_id)
        for (digest, partition), entry_ids in leaving.items():
            for batch in _batches(entry_ids):
                await self._search.delete(collection_name(digest, partition), batch)
                await self._store.forget_removed(batch)

    async def _scope(self, entry_id: str) -> Scope | None:
        record = await self._store.get(entry_id)
        return Scope(**record["scope"]) if record else None


def _place(row: object) -> tuple[str, str]:
    """Return the partition and the model digest in the statistics of an entry, see ``gdsf``."""
    fields = as_bytes(row).decode().split(" ")
    return fields[3].partition("@")[0], fields[4]


def _batches(entry_ids: Sequence[str]) -> list[Sequence[str]]:
    return [
        entry_ids[first : first + _BATCH_SIZE] for first in range(0, len(entry_ids), _BATCH_SIZE)
    ]
