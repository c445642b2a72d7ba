"""Reads cache entries by the model of their vectors, to re-embed them.

It reads the keys of ``store`` and ``gdsf``.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from services.gateway.cache.store import CacheStore, StoredEntry
from services.gateway.redis_store import Record, as_bytes, in_thread, load, one_slot, redis_errors

_SCAN_COUNT = 500
# A batch has at most this many entries, and this size unless one entry is larger.
MAX_BATCH, MAX_BATCH_BYTES = 32, 16 * 2**20


class ModelStore:
    """Counts and reads the entries of each model.

    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = one_slot(redis, prefix + "gateway:")
        self._store = CacheStore(redis, prefix)

    async def count_by_model(self) -> Counter[str]:
        """Delete expired entries; return how many of the others have vectors of each model.

        The keys are the models' digests.
        """
        await self._delete_expired()
        counts: Counter[str] = Counter()
        async with redis_errors():
            rows = self._redis.hscan_iter(self._prefix + "weights", count=_SCAN_COUNT)
            async for _, row in rows:
                counts[_digest_of(row)] += 1
        return counts

    async def entries_of_other_models(self, digest: str) -> AsyncIterator[list[StoredEntry]]:
        """Yield batches of the entries of models other than ``digest``.

        A batch has at most ``MAX_BATCH`` entries and ``MAX_BATCH_BYTES``, or a single entry.
        """
        cursor, more = 0, True
        while more:
            async with redis_errors():
                cursor, rows = await self._redis.hscan(
                    self._prefix + "weights", cursor, count=_SCAN_COUNT
                )
            more = cursor != 0
            sizes = {
                as_bytes(key).decode(): int(as_bytes(row).split(b" ", 1)[0])
                for key, row in rows.items()
                if _digest_of(row) != digest
            }
            for entry_ids in _batches(sizes):
                yield await self._stored(entry_ids)

    async def entries_without_vector(self, count: int) -> list[StoredEntry]:
        """Return at most ``count`` entries that only the exact tier holds."""
        async with redis_errors():
            found = await self._redis.srandmember(self._prefix + "unindexed", count)
        entry_ids = [as_bytes(one).decode() for one in found]
        stored = await self._stored(entry_ids)
        await self.leave_without_vector({*entry_ids} - {one.id for one in stored})  # expired
        return stored

    async def leave_without_vector(self, entry_ids: Collection[str]) -> None:
        """Return these entries no more as entries without a vector."""
        if entry_ids:
            async with redis_errors():
                await self._redis.srem(self._prefix + "unindexed", *entry_ids)

    async def _stored(self, entry_ids: Sequence[str]) -> list[StoredEntry]:
        """Return those of the entries that exist."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for entry_id in entry_ids:
                pipe.get(f"{self._prefix}entry:{entry_id}")
                pipe.pttl(f"{self._prefix}entry:{entry_id}")
            replies = await pipe.execute()
        found = zip(entry_ids, map(as_bytes, replies[::2]), replies[1::2], strict=True)
        return [
            StoredEntry(
                key,
                data,
                await in_thread(_record, data, len(data)),
                max(milliseconds, 0) / 1000,
            )
            for key, data, milliseconds in found
            if data
        ]

    async def _delete_expired(self) -> None:
        """Delete the statistics of expired entries."""
        ends = self._prefix + "ends"
        async with redis_errors():
            while await self._redis.zcount(ends, "-inf", round(time.time() * 1000)):
                await self._store.evict(float("inf"))


def _record(data: bytes) -> Record:
    return load(data) or {}


def _digest_of(row: object) -> str:
    """Return the model digest in the statistics of an entry, see ``gdsf``."""
    return as_bytes(row).rpartition(b" ")[2].decode()


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield the ids in batches of at most ``MAX_BATCH`` entries and ``MAX_BATCH_BYTES``."""
    batch: list[str] = []
    total = 0
    for entry_id, size in sizes.items():
        if batch and (len(batch) == MAX_BATCH or total + size > MAX_BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(entry_id)
        total += size
    if batch:
        yield batch
