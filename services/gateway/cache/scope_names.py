"""The names of the tenants and of their namespaces, so that an owner can choose one.

Keys, under the prefix of the settings:

- ``tenant_names:``            sorted set of the tenants used last, by time
- ``namespaces:<tenant>``      sorted set of a tenant's namespaces, by time
"""

import time
from collections.abc import Collection, Mapping
from typing import Any

from redis.asyncio import Redis

from services.gateway.cache.recency import RecencyList
from services.gateway.redis_store import as_bytes, redis_errors

MAX_TENANTS = 1_000
# A tenant that creates more namespaces has neither names nor counters of the others.
MAX_NAMESPACES = 50
MAX_CHARACTERS = 200
KEPT_SECONDS = 90 * 86_400


class ScopeNames:
    """Lists names. Every method raises Unavailable if Redis is unreachable."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}gateway:"
        self._recent = RecencyList(redis, f"{self._prefix}tenant_names:", MAX_TENANTS, KEPT_SECONDS)

    async def add_tenants(self, names: Collection[str]) -> None:
        """Add the names of tenants."""
        short = [name for name in names if len(name) <= MAX_CHARACTERS]
        if short:
            await self._recent.add({"": short})

    async def add_namespaces(self, used: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
        """Add namespaces, by the partition of their tenant. Return those that have a place.

        The first MAX_NAMESPACES of a tenant have one, until nobody uses them for KEPT_SECONDS.
        """
        if not used:
            return {}
        now = time.time()
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for tenant in used:
                pipe.zremrangebyscore(self._key(tenant), 0, now - KEPT_SECONDS)
                pipe.zrange(self._key(tenant), 0, -1)
            listed = (await pipe.execute())[1::2]
        placed: dict[str, set[str]] = {}
        for (tenant, names), members in zip(used.items(), listed, strict=True):
            known = _texts(members)
            new = sorted(name for name in {*names} - {*known} if len(name) <= MAX_CHARACTERS)[
                : max(0, MAX_NAMESPACES - len(known))
            ]
            placed[tenant] = {*names} & {*known, *new}
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for tenant, names in placed.items():
                if names:
                    pipe.zadd(self._key(tenant), dict.fromkeys(names, now))
                    pipe.expire(self._key(tenant), KEPT_SECONDS)
            await pipe.execute()
        return placed

    async def tenants(self) -> list[str]:
        """Return the names of the tenants."""
        return await self._members("tenant_names:")

    async def namespaces(self, tenant: str) -> list[str]:
        """Return the namespaces of a tenant, given its partition."""
        return await self._members(f"namespaces:{tenant}")

    async def forget_tenant(self, name: str) -> None:
        """Delete the name of a tenant."""
        async with redis_errors():
            await self._redis.zrem(f"{self._prefix}tenant_names:", name)

    async def _members(self, key: str) -> list[str]:
        async with redis_errors():
            members = await self._redis.zrange(self._prefix + key, 0, -1)
        return sorted(_texts(members))

    def _key(self, tenant: str) -> str:
        return f"{self._prefix}namespaces:{tenant}"


def _texts(members: Collection[object]) -> list[str]:
    return [as_bytes(member).decode() for member in members]
