"""The cache's counters in Redis, which all replicas add to.

Keys, all under the prefix of the settings:

- ``stats:<partition>``            hash of the counters of a partition, or of a whole tenant, kept
                                   for 90 days after the last lookup
- ``history:<tenant>:<slot>``      hash of the counters of a tenant or of a namespace in five
                                   minutes, kept for a day
- ``counted:<tenant>``             the tenant's latest partitions, see ``recency``

A namespace has the counters of all its users together, and a history.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from redis.asyncio import Redis

from services.gateway.cache.owners import Owner
from services.gateway.cache.recency import RecencyList
from services.gateway.redis_store import redis_errors

SLOT_SECONDS, SLOTS = 300, 288
STATS_SECONDS = 90 * 86_400
# A tenant has counters of this many scopes. Those of the scope used least recently are dropped.
MAX_SCOPES = 10_000
# Number of counters' keys in one pipeline.
BATCH_SIZE = 1_000


class UsageStore:
    """Adds to counters and reads them.

    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"
        counted = self._prefix + "counted:"
        self._scopes = RecencyList(redis, counted, MAX_SCOPES, STATS_SECONDS)

    async def add(
        self,
        totals: Mapping[Owner, Mapping[str, float]],
        of_namespaces: Mapping[Owner, Mapping[str, float]] = MappingProxyType({}),
    ) -> None:
        """Add increments to the counters of scopes, and to those of their tenants.

        Args:
            totals: the increments of scopes.
            of_namespaces: those of whole namespaces, which ``totals`` contain, too. They name the
                partitions of the namespaces.
        """
        of_tenants: defaultdict[str, Counter[str]] = defaultdict(Counter)
        scopes: defaultdict[str, list[str]] = defaultdict(list)
        for owner, counts in totals.items():
            of_tenants[owner.tenant].update(counts)
            scopes[owner.tenant].append(owner.partition)
        number = int(time.time()) // SLOT_SECONDS
        history = SLOT_SECONDS * (SLOTS + 1)
        increments: list[tuple[str, int, Mapping[str, float]]] = []
        for owner, counts in totals.items():
            increments.append((f"stats:{owner.partition}", STATS_SECONDS, counts))
        for owner, counts in of_namespaces.items():
            scopes[owner.tenant].append(owner.partition)
            increments.append((f"stats:{owner.partition}", STATS_SECONDS, counts))
            increments.append((f"history:{owner.partition}:{number}", history, counts))
        for tenant, counts in of_tenants.items():
            increments.append((f"stats:{tenant}", STATS_SECONDS, counts))
            increments.append((f"history:{tenant}:{number}", history, counts))
        for first in range(0, len(increments), BATCH_SIZE):
            await self._add(increments[first : first + BATCH_SIZE])
        dropped = await self._scopes.add(scopes)
        if dropped:
            async with redis_errors():
                await self._redis.delete(*(f"{self._prefix}stats:{one}" for one in dropped))

    async def _add(self, increments: Sequence[tuple[str, int, Mapping[str, float]]]) -> None:
        """Add to the counters of keys, and let each key live for its seconds."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for name, seconds, counts in increments:
                for counter, value in counts.items():
                    pipe.hincrbyfloat(self._prefix + name, counter, value)
                pipe.expire(self._prefix + name, seconds)
            await pipe.execute()

    async def counters(self, partition: str) -> dict[str, float]:
        """Return the counters of a partition."""
        async with redis_errors():
            return _numbers(await self._redis.hgetall(f"{self._prefix}stats:{partition}"))

    async def history(self, partition: str) -> list[tuple[float, dict[str, float]]]:
        """Return the counters of each slot of the last day, oldest first.

        Each comes with the slot's start, in seconds since 1970.
        """
        last = int(time.time()) // SLOT_SECONDS
        slots = range(last - SLOTS + 1, last + 1)
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for slot in slots:
                pipe.hgetall(f"{self._prefix}history:{partition}:{slot}")
            hashes = await pipe.execute()
        starts = (float(slot * SLOT_SECONDS) for slot in slots)
        return [(start, _numbers(one)) for start, one in zip(starts, hashes, strict=True)]


def _numbers(counters: Mapping[bytes, bytes]) -> dict[str, float]:
    return {name.decode(): float(value) for name, value in counters.items()}
