"""The cache's records in Redis: entries and their worth, counters, purges.

Keys, all under the prefix of the settings:

- ``entry:<id>``                   a cached answer, JSON
- ``entries:<partition>``          sorted set of the ids of a partition's answers
- ``purges:<partition>``           counts purges of a partition
- ``audit:<partition>``            stream of what was purged, and by whom
- ``stats:<place>``                hash of the counters of a partition, or of a whole tenant
- ``history:<place>:<slot>``       hash of a tenant's counters in five minutes, for a day
- ``observations:<tenant>``        stream of what became of a tenant's answers, see ``evidence``
- ``request:<partition>:<id>``     the entry that a request id created, for a day
- ``worth``, ``weights``, ``ends``, ``bytes``, ``floor``, ``leaving``: see ``worth``
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from services.gateway.cache import gdsf
from services.gateway.cache.reads import Reads
from services.gateway.redis_store import Record, as_bytes, dump, load, page, redis_errors

REQUEST_ID_SECONDS = 86400
SLOT_SECONDS, SLOTS = 300, 288
AUDITED = 1000


class CacheStore:
    """Reads and writes what the cache keeps.

    Every method raises Unavailable if Redis is away, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"
        self._reads = Reads(redis)
        self._write, self._delete, self._evict, self._touch = map(
            redis.register_script, (gdsf.WRITE, gdsf.DELETE, gdsf.EVICT, gdsf.TOUCH)
        )

    async def close(self) -> None:
        """Close the connection that entries are read on."""
        await self._reads.close()

    async def entry(self, key: str) -> Record | None:
        """Read a cached answer."""
        async with redis_errors():
            return load(await self._reads.get(f"{self._prefix}entry:{key}"))

    async def named(self, keys: Sequence[str]) -> list[Record]:
        """Read cached answers in the order of their keys; what is gone is left out."""
        if not keys:
            return []
        async with redis_errors():
            values = await self._redis.mget([f"{self._prefix}entry:{key}" for key in keys])
        return [record for record in map(load, values) if record]

    async def write(
        self, partition: str, record: Record, seconds: float, purges: int | None = None
    ) -> int:
        """Write a cached answer, for ``seconds`` if that is not 0; return the bytes of all.

        It is not written, and the reply is -1, if the partition was purged after ``purges``.
        """
        data = dump(record)
        words = [partition, record["id"], data, round(seconds * 1000), record["digest"]]
        words += ["" if purges is None else purges, gdsf.footprint(data, record["vector"])]
        words += [gdsf.cost(record["usage"], record["response"]), _now()]
        return int(await self._run(self._write, words))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete cached answers."""
        await self._run(self._delete, keys)

    async def evict(self, most: float) -> int:
        """Delete what is worth least until all take at most ``most`` bytes; return how many.

        What has expired is forgotten first. Some at a time: fewer than wanted may be deleted.
        """
        return int(await self._run(self._evict, [most, _now()]))

    async def touch(self, hits: Mapping[str, int]) -> None:
        """Count hits of entries, which makes them worth more."""
        await self._run(self._touch, [word for hit in hits.items() for word in hit])

    async def leaving(self) -> dict[str, tuple[str, str]]:
        """Return evicted entries that search may still have: model's digest and partition by id."""
        async with redis_errors():
            found = await self._redis.hgetall(self._prefix + "leaving")
        told = {as_bytes(key).decode(): as_bytes(one).decode() for key, one in found.items()}
        return {key: (one.partition(" ")[0], one.partition(" ")[2]) for key, one in told.items()}

    async def left(self, keys: Sequence[str]) -> None:
        """Note that evicted entries are gone from search too."""
        async with redis_errors():
            await self._redis.hdel(self._prefix + "leaving", *keys)

    async def purges(self, partition: str) -> int:
        """Return how often a partition was purged."""
        async with redis_errors():
            return int(await self._redis.get(f"{self._prefix}purges:{partition}") or 0)

    async def begin_purge(self, partition: str) -> None:
        """Count a purge before it happens, so that no answer on its way outlives it."""
        async with redis_errors():
            await self._redis.incr(f"{self._prefix}purges:{partition}")

    async def audit(self, partition: str, record: Record) -> None:
        """Note what was purged."""
        key = f"{self._prefix}audit:{partition}"
        async with redis_errors():
            await self._redis.xadd(key, {"record": dump(record)}, maxlen=AUDITED)

    async def audited(self, partition: str, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of what was purged, newest first, and the next page's token."""
        async with redis_errors():
            found = await self._redis.xrevrange(
                f"{self._prefix}audit:{partition}",
                max=f"({token}" if token else "+",
                count=size + 1,
            )
        records = [load(fields[b"record"]) or {} for _, fields in found[:size]]
        return records, as_bytes(found[size - 1][0]).decode() if len(found) > size else ""

    async def entries(self, partition: str, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of a partition's answers by id; those that expired are forgotten."""
        listed = f"{self._prefix}entries:{partition}"
        keys, following = await page(self._redis, listed, size, token)
        if not keys:
            return [], following
        async with redis_errors():
            values = await self._redis.mget([f"{self._prefix}entry:{key}" for key in keys])
            gone = [key for key, value in zip(keys, values, strict=True) if value is None]
            if gone:
                await self._redis.zrem(listed, *gone)
        return [record for record in map(load, values) if record], following

    async def count(self, place: str, counts: Mapping[str, float], *, history: bool) -> None:
        """Add to the counters of a place, and to those of these five minutes if they are kept."""
        slot = f"{self._prefix}history:{place}:{int(time.time()) // SLOT_SECONDS}"
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for name, value in counts.items():
                pipe.hincrbyfloat(f"{self._prefix}stats:{place}", name, value)
                if history:
                    pipe.hincrbyfloat(slot, name, value)
            if history:
                pipe.expire(slot, SLOT_SECONDS * (SLOTS + 1))
            await pipe.execute()

    async def counters(self, place: str) -> dict[str, float]:
        """Return the counters of a place."""
        async with redis_errors():
            return _numbers(await self._redis.hgetall(f"{self._prefix}stats:{place}"))

    async def history(self, place: str) -> list[tuple[float, dict[str, float]]]:
        """Return a day's counters, each with its beginning in seconds since 1970."""
        last = int(time.time()) // SLOT_SECONDS
        slots = range(last - SLOTS + 1, last + 1)
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for slot in slots:
                pipe.hgetall(f"{self._prefix}history:{place}:{slot}")
            found = await pipe.execute()
        starts = (float(slot * SLOT_SECONDS) for slot in slots)
        return [(start, _numbers(one)) for start, one in zip(starts, found, strict=True)]

    async def observe(self, tenant: str, record: Record, most: int) -> str:
        """Append an observation, and forget all but the latest; return its place."""
        key = f"{self._prefix}observations:{tenant}"
        async with redis_errors():
            place = await self._redis.xadd(key, {"o": dump(record)}, maxlen=most, approximate=False)
        return as_bytes(place).decode()

    async def observations(self, tenant: str, after: str) -> tuple[list[Record], str]:
        """Return the observations after a place, all for an empty one, and the last one's place."""
        key, start = f"{self._prefix}observations:{tenant}", f"({after}" if after else "-"
        async with redis_errors():
            found = await self._redis.xrange(key, start)
        records = [load(fields[b"o"]) or {} for _, fields in found]
        return records, as_bytes(found[-1][0]).decode() if found else after

    async def claim_request(self, partition: str, request: str, entry: str) -> str:
        """Note which entry a request id creates; return the entry that its first call created."""
        key = f"{self._prefix}request:{partition}:{request}"
        async with redis_errors():
            first = await self._redis.set(key, entry, nx=True, get=True, ex=REQUEST_ID_SECONDS)
        return as_bytes(first).decode() or entry

    async def _run(self, script: Any, words: Sequence[Any]) -> Any:
        async with redis_errors():
            return await script(keys=[self._prefix], args=words)


def _now() -> int:
    return round(time.time() * 1000)


def _numbers(found: Mapping[bytes, bytes]) -> dict[str, float]:
    return {name.decode(): float(value) for name, value in found.items()}
