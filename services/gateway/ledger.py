"""The gateway's own records in Redis; ``shelf`` has the cache's, ``library`` those of documents.

Keys, all under the prefix of the settings:

- ``secret``                       32 random bytes that key the cache's partitions, made once
- ``epoch:<collection>``           counts changes to a collection of documents
- ``calibration:<collection>``     hash by model digest: when questions are refused, JSON
- ``twin:<id>``                    hash of a twin: ``record`` (JSON) and ``picture`` (bytes)
- ``twins``                        sorted set of the ids of the twins
"""

import secrets
from collections.abc import Sequence

from redis.asyncio import Redis

from services.gateway.redis_store import Record, as_bytes, asking, dump, load, page


class Ledger:
    """Reads and writes the gateway's records.

    Every method raises Unavailable if Redis is away, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._secret = b""

    async def ready(self) -> bool:
        """Say whether Redis answers."""
        async with asking():
            return bool(await self._redis.ping())

    async def secret(self) -> bytes:
        """Return the secret that all replicas share; made at the first call of all."""
        if not self._secret:
            key = self._key("secret")
            async with asking():
                await self._redis.set(key, secrets.token_bytes(32), nx=True)
                self._secret = as_bytes(await self._redis.get(key))
        return self._secret

    async def epochs(self, collections: Sequence[str]) -> list[int]:
        """Return how often each collection of documents has changed."""
        async with asking():
            values = await self._redis.mget([self._key("epoch", name) for name in collections])
        return [int(value or 0) for value in values]

    async def calibrations(self, collections: Sequence[str], digest: str) -> list[Record | None]:
        """Return what was learnt about refusals for each collection and a model."""
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for name in collections:
                pipe.hget(self._key("calibration", name), digest)
            return [load(value) for value in await pipe.execute()]

    async def write_calibration(self, collection: str, digest: str, record: Record) -> None:
        """Keep what was learnt about refusals; answers kept before it are not served."""
        async with asking(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key("calibration", collection), digest, dump(record))
            pipe.incr(self._key("epoch", collection))
            await pipe.execute()

    async def twin(self, key: str) -> Record | None:
        """Read what is known of a twin."""
        async with asking():
            return load(await self._redis.hget(self._key("twin", key), "record"))

    async def twins(self, keys: Sequence[str]) -> list[Record | None]:
        """Read what is known of several twins, in their order."""
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(self._key("twin", key), "record")
            return [load(value) for value in await pipe.execute()]

    async def picture(self, key: str) -> bytes | None:
        """Read a twin's picture file."""
        async with asking():
            value = await self._redis.hget(self._key("twin", key), "picture")
        return value if isinstance(value, bytes) else None

    async def write_twin(self, key: str, record: Record, picture: bytes) -> None:
        """Write a twin and its picture."""
        async with asking(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key("twin", key), mapping={"record": dump(record), "picture": picture})
            pipe.zadd(self._key("twins"), {key: 0})
            await pipe.execute()

    async def delete_twin(self, key: str) -> None:
        """Delete a twin and its picture."""
        async with asking(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._key("twin", key))
            pipe.zrem(self._key("twins"), key)
            await pipe.execute()

    async def list_twins(self, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of twins in the order of their ids, and the next page's token."""
        keys, following = await page(self._redis, self._key("twins"), size, token)
        return [record for record in await self.twins(keys) if record], following

    def _key(self, *parts: str) -> str:
        return self._prefix + "gateway:" + ":".join(parts)
