"""The gateway's own records in Redis: cached answers, pictures, epochs (documents: ``library``).

Keys, all under the prefix of the settings:

- ``secret``                       32 random bytes that key the cache's partitions, made once
- ``entry:<id>``                   a cached answer, JSON
- ``entries:<partition>``          sorted set of the ids of a partition's answers
- ``purges:<partition>``           counts purges of a partition
- ``stats:<partition>``            hash of a partition's counters
- ``request:<partition>:<id>``     the entry that a request id created, for a day
- ``epoch:<collection>``           counts changes to a collection of documents
- ``calibration:<collection>``     hash by model digest: when questions are refused, JSON
- ``twin:<id>``                    hash of a twin: ``record`` (JSON) and ``picture`` (bytes)
- ``twins``                        sorted set of the ids of the twins
"""

import secrets
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from services.gateway.records import Record, as_bytes, asking, dump, load, page

_WRITE_ENTRY = """
if ARGV[4] ~= '' and ARGV[4] ~= (redis.call('GET', KEYS[3]) or '0') then return 0 end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
redis.call('ZADD', KEYS[2], 0, ARGV[3])
return 1
"""
REQUEST_ID_SECONDS = 86400


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

    async def entry(self, key: str) -> Record | None:
        """Read a cached answer."""
        async with asking():
            return load(await self._redis.get(self._key("entry", key)))

    async def write_entry(
        self, partition: str, record: Record, ttl: float, purges: int | None = None
    ) -> bool:
        """Write a cached answer, for ``ttl`` seconds if that is not 0.

        It is not written, and the reply is False, if the partition was purged after ``purges``.
        """
        names = [("entry", record["id"]), ("entries", partition), ("purges", partition)]
        known = "" if purges is None else str(purges)
        words = [dump(record), round(ttl * 1000), record["id"], known]
        keys = [self._key(*name) for name in names]
        async with asking():
            call: Any = self._redis.eval(_WRITE_ENTRY, 3, *keys, *words)
            return bool(await call)

    async def purges(self, partition: str) -> int:
        """Return how often a partition was purged."""
        async with asking():
            return int(await self._redis.get(self._key("purges", partition)) or 0)

    async def begin_purge(self, partition: str) -> None:
        """Count a purge before it happens, so that no answer on its way outlives it."""
        async with asking():
            await self._redis.incr(self._key("purges", partition))

    async def delete_entries(self, partition: str, keys: Sequence[str]) -> None:
        """Delete cached answers."""
        async with asking(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(*(self._key("entry", key) for key in keys))
            pipe.zrem(self._key("entries", partition), *keys)
            await pipe.execute()

    async def entries(self, partition: str, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of a partition's answers by id; those that expired are forgotten."""
        listed = self._key("entries", partition)
        keys, following = await page(self._redis, listed, size, token)
        if not keys:
            return [], following
        async with asking():
            values = await self._redis.mget([self._key("entry", key) for key in keys])
            gone = [key for key, value in zip(keys, values, strict=True) if value is None]
            if gone:
                await self._redis.zrem(listed, *gone)
        return [record for record in map(load, values) if record], following

    async def count(self, partition: str, counts: dict[str, float]) -> None:
        """Add to a partition's counters."""
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for name, value in counts.items():
                pipe.hincrbyfloat(self._key("stats", partition), name, value)
            await pipe.execute()

    async def counters(self, partition: str) -> dict[str, float]:
        """Return a partition's counters."""
        async with asking():
            found = await self._redis.hgetall(self._key("stats", partition))
        return {as_bytes(name).decode(): float(value) for name, value in found.items()}

    async def claim_request(self, partition: str, request: str, entry: str) -> str:
        """Note which entry a request id creates; return the entry that its first call created."""
        key = self._key("request", partition, request)
        async with asking():
            first = await self._redis.set(key, entry, nx=True, get=True, ex=REQUEST_ID_SECONDS)
        return as_bytes(first).decode() or entry

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
