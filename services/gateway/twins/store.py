"""Twins in Redis: their records and their pictures.

Keys, under the prefix of the settings:

- ``gateway:twin-record:<hash tag>``        hash of a twin: ``record`` (JSON), ``picture`` (bytes)
- ``gateway:twin-vectors:<hash tag>``       set of the search collections that may hold its vectors
- ``gateway:twin-ids:{<tenant's tag>/}``    sorted set of the ids of a tenant's twins

The hash tag ``{<tenant's tag>/<id>}`` keeps the keys of a twin in one slot of a cluster, because
they change together. See ``tenants`` for the tenant's tag.
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
from services.gateway.tenants import Tenant


class TwinStore:
    """Reads and writes twins.

    Every method raises Unavailable if Redis is unreachable, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = f"{prefix}gateway:"

    async def get(self, tenant: Tenant, key: str) -> Record | None:
        """Return the record of a twin, or None."""
        async with redis_errors():
            return load(await self._redis.hget(self._record(tenant, key), "record"))

    async def get_many(self, tenant: Tenant, keys: Sequence[str]) -> list[Record | None]:
        """Return the records of several twins, in the order of ``keys``; None for unknown ones."""
        return [load(value) for value in await self._values(tenant, keys)]

    async def picture(self, tenant: Tenant, key: str) -> bytes | None:
        """Return the picture file of a twin, or None."""
        async with redis_errors():
            value: object = await self._redis.hget(self._record(tenant, key), "picture")
        return value if isinstance(value, bytes) else None

    async def put(
        self, tenant: Tenant, record: Record, picture: bytes, collections: Sequence[str]
    ) -> None:
        """Write a twin and its picture, and record the collections that will get its vectors.

        The twin is listed last. If the call is cut off before, the caller adds the twin again,
        because search does not have it.
        """
        key = record["id"]
        async with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                mapping: dict[str, bytes] = {"record": dump(record), "picture": picture}
                pipe.hset(self._record(tenant, key), mapping=mapping)  # type: ignore[arg-type]
                pipe.sadd(self._vectors(tenant, key), *collections)
                await pipe.execute()
            await self._redis.zadd(self._ids(tenant), {key: 0})

    async def collections(self, tenant: Tenant, key: str) -> set[str]:
        """Return the collections that may hold a twin's vectors; earlier versions recorded none."""
        async with redis_errors():
            names: Any = await cast(Any, self._redis.smembers(self._vectors(tenant, key)))
        return {as_bytes(name).decode() for name in names}

    async def remove_collections(
        self, tenant: Tenant, key: str, collections: Iterable[str]
    ) -> None:
        """Record that these collections no longer hold a twin's vectors."""
        async with redis_errors():
            await cast(Any, self._redis.srem(self._vectors(tenant, key), *collections))

    async def delete(self, tenant: Tenant, key: str) -> None:
        """Delete a twin and its picture, after its vectors have been deleted.

        The record is deleted last, so that a call that was cut off can be repeated.
        """
        async with redis_errors():
            await self._redis.zrem(self._ids(tenant), key)
            await self._redis.delete(self._record(tenant, key), self._vectors(tenant, key))

    async def page(self, tenant: Tenant, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of twins in the order of their ids, and the next page's token.

        The records of a page take at most ``MAX_PAGE_BYTES``.
        """
        keys, next_token = await page(self._redis, self._ids(tenant), size, token)
        values = await self._values(tenant, keys)
        sizes = itertools.accumulate(len(value or b"") for value in values)
        count = sum(total <= MAX_PAGE_BYTES for total in sizes)
        if count < len(keys):
            next_token = keys[count - 1]
        return [record for record in map(load, values[:count]) if record], next_token

    async def _values(self, tenant: Tenant, keys: Sequence[str]) -> list[bytes | None]:
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(self._record(tenant, key), "record")
            values: list[bytes | None] = await pipe.execute()
        return values

    def _record(self, tenant: Tenant, key: str) -> str:
        return f"{self._prefix}twin-record:{tenant.hash_tag(key)}"

    def _vectors(self, tenant: Tenant, key: str) -> str:
        return f"{self._prefix}twin-vectors:{tenant.hash_tag(key)}"

    def _ids(self, tenant: Tenant) -> str:
        return f"{self._prefix}twin-ids:{tenant.hash_tag('')}"
