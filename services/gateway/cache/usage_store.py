"""The cache's counters in Redis, which all replicas add to.

Keys, all under the prefix of the settings:

- ``stats:<partition>``            hash of the counters of a partition, or of a whole tenant, kept
                                   for 90 days after the last lookup
- ``history:<partition>:<slot>``   hash of a tenant's counters in five minutes, kept for a day
"""

import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from services.gateway.redis_store import redis_errors

SLOT_SECONDS, SLOTS = 300, 288
STATS_SECONDS = 90 * 86_400
# Number of partitions in one pipeline.
BATCH_SIZE = 1_000


class UsageStore:
    """Adds to counters and reads them.

    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"

    async def add(self, totals: Mapping[tuple[str, bool], Mapping[str, float]]) -> None:
        """Add to the counters of partitions in one round trip for up to ``BATCH_SIZE`` partitions.

        Args:
            totals: increments by partition, and whether they count in the current slot too.
        """
        number = int(time.time()) // SLOT_SECONDS
        partitions = list(totals.items())
        for first in range(0, len(partitions), BATCH_SIZE):
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for (partition, history), counts in partitions[first : first + BATCH_SIZE]:
                    keys = {f"{self._prefix}stats:{partition}": STATS_SECONDS}
                    if history:
                        slot = f"{self._prefix}history:{partition}:{number}"
                        keys[slot] = SLOT_SECONDS * (SLOTS + 1)
                    for key, seconds in keys.items():
                        for name, value in counts.items():
                            pipe.hincrbyfloat(key, name, value)
                        pipe.expire(key, seconds)
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
