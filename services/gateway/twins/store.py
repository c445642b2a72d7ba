"""Twins in Redis: their records and their pictures.

Keys, under the prefix of the settings:

- ``gateway:twin:<id>``               hash of a twin: ``record`` (JSON) and ``picture`` (bytes)
- ``gateway:twins``                   sorted set of the ids of all twins
- ``gateway:twin-collections:<id>``   set of the search collections that may hold a twin's vectors
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, cast

from redis.asyncio import Redis

from services.gateway.redis_store import (
    MAX_PAGE_BYTES,
    Record,
    as_bytes,
    dump,
    load,
    page,
    redis_errors,
)


class TwinStore:
    """Reads and writes twins.

    Every method raises Unavailable if Redis is unreachable, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = f"{prefix}gateway:twin:"
        self._ids = f"{prefix}gateway:twins"
        self._collections = f"{prefix}gateway:twin-collections:"

    async def get(self, key: str) -> Record | None:
        """Return the record of a twin, or None."""
        async with redis_errors():
            return load(await self._redis.hget(self._prefix + key, "record"))

    async def get_many(self, keys: Sequence[str]) -> list[Record | None]:
        """Return the records of several twins, in the order of ``keys``; None for unknown ones."""
        return [load(value) for value in await self._values(keys)]

    async def picture(self, key: str) -> bytes | None:
        """Return the picture file of a twin, or None."""
        async with redis_errors():
            value: object = await self._redis.hget(self._prefix + key, "picture")
        return value if isinstance(value, bytes) else None

    async def put(
        self, key: str, record: Record, picture: bytes, collections: Sequence[str]
    ) -> None:
        """Write a twin and its picture, and record the collections that will get its vectors."""
        async with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            mapping: dict[str, bytes] = {"record": dump(record), "picture": picture}
            pipe.hset(self._prefix + key, mapping=mapping)  # type: ignore[arg-type]
            pipe.zadd(self._ids, {key: 0})
            pipe.sadd(self._collections + key, *collections)
            await pipe.execute()

    async def collections(self, key: str) -> set[str]:
        """Return the collections that may hold a twin's vectors; earlier versions recorded none."""
        async with redis_errors():
            names: Any = await cast(Any, self._redis.smembers(self._collections + key))
        return {as_bytes(name).decode() for name in names}

    async def remove_collections(self, key: str, collections: Iterable[str]) -> None:
        """Record that these collections no longer hold a twin's vectors."""
        async with redis_errors():
            await cast(Any, self._redis.srem(self._collections + key, *collections))

    async def delete(self, key: str) -> None:
        """Delete a twin and its picture, after its vectors have been deleted."""
        async with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._prefix + key)
            pipe.delete(self._collections + key)
            pipe.zrem(self._ids, key)
            await pipe.execute()

    async def page(self, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of twins in the order of their ids, and the next page's token.

        The records of a page take at most ``MAX_PAGE_BYTES``.
        """
        keys, next_token = await page(self._redis, self._ids, size, token)
        values = await self._values(keys)
        sizes = itertools.accumulate(len(value or b"") for value in values)
        count = sum(total <= MAX_PAGE_BYTES for total in sizes)
        if count < len(keys):
            next_token = keys[count - 1]
        return [record for record in map(load, values[:count]) if record], next_token

    async def _values(self, keys: Sequence[str]) -> list[bytes | None]:
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(self._prefix + key, "record")
            values: list[bytes | None] = await pipe.execute()
        return values
