"""The calibrations of abstention in Redis.

Key, under the prefix of the settings:

- ``gateway:calibration:<collection>``   hash of calibrations (JSON), by model digest
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from services.gateway.redis_store import Record, dump, load, redis_errors


class CalibrationStore:
    """Reads and writes calibrations.

    Every method raises Unavailable if Redis is unreachable, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = f"{prefix}gateway:calibration:"

    async def get(self, collections: Sequence[str], digest: str) -> list[Record | None]:
        """Return the calibration of each collection for the model ``digest``, or None."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for name in collections:
                pipe.hget(self._prefix + name, digest)
            return [load(value) for value in await pipe.execute()]

    async def put(self, collection: str, digest: str, record: Record) -> None:
        """Write the calibration of a collection for the model ``digest``."""
        async with redis_errors():
            await self._redis.hset(self._prefix + collection, digest, dump(record).decode())
