"""Bounds what a tenant can leave in Redis: its latest members stay, and the oldest are dropped."""

import time
from collections.abc import Collection, Mapping
from typing import Any

from services.gateway.redis_store import as_bytes, redis_errors


class RecencyList:
    """Lists the ``limit`` latest members of each tenant, for ``seconds`` after the last one.

    The key ``<prefix><tenant>`` is a sorted set of the members by their time.
    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Any, prefix: str, limit: int, seconds: int) -> None:
        self._redis = redis
        self._prefix = prefix
        self._limit = limit
        self._seconds = seconds

    async def add(self, members: Mapping[str, Collection[str]]) -> list[str]:
        """Add members of tenants, or renew them. Return the members that are dropped for them."""
        if not members:
            return []
        now = time.time()
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for tenant, added in members.items():
                pipe.zadd(self._prefix + tenant, dict.fromkeys(added, now))
                pipe.expire(self._prefix + tenant, self._seconds)
                pipe.zcard(self._prefix + tenant)
            counts = (await pipe.execute())[2::3]
        dropped: list[str] = []
        for tenant, count in zip(members, counts, strict=True):
            if count > self._limit:
                async with redis_errors():
                    oldest = await self._redis.zpopmin(self._prefix + tenant, count - self._limit)
                dropped += [as_bytes(member).decode() for member, _ in oldest]
        return dropped
