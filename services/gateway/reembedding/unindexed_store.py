"""The ids of cache entries without a vector, in Redis; ``cache.gdsf`` keeps the set."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from services.gateway.cache.store import StoredEntry
from services.gateway.redis_store import as_bytes, redis_errors


class UnindexedStore:
    """Reads the entries that only the exact tier holds.

    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"
        self._key = self._prefix + "unindexed"

    async def some(self, count: int) -> list[StoredEntry]:
        """Return at most ``count`` entries without a vector, and forget those that have expired."""
        async with redis_errors():
            ids = [
                as_bytes(one).decode() for one in await self._redis.srandmember(self._key, count)
            ]
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry_id in ids:
                    pipe.get(f"{self._prefix}entry:{entry_id}")
                    pipe.pttl(f"{self._prefix}entry:{entry_id}")
                replies = await pipe.execute()
        found = list(zip(ids, replies[::2], replies[1::2], strict=True))
        await self.forget([entry_id for entry_id, data, _ in found if not data])
        return [
            StoredEntry(entry_id, as_bytes(data), max(milliseconds, 0) / 1000)
            for entry_id, data, milliseconds in found
            if data
        ]

    async def forget(self, entry_ids: Sequence[str]) -> None:
        """Leave entries in the exact tier alone."""
        if entry_ids:
            async with redis_errors():
                await self._redis.srem(self._key, *entry_ids)
