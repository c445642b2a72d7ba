"""The cache's entries, purges and request ids in Redis.

Keys, all under the prefix of the settings (see ``gdsf``, ``usage_store`` and
``error_budget.store`` for the others):

- ``entry:<id>``                   an entry, JSON
- ``entries:<partition>``          sorted set of the ids of a partition's entries
- ``purges:<partition>``           how often a partition was purged
- ``audit:<partition>``            stream of a partition's purge records
- ``request:<partition>:<id>``     the entry that a request id created, for a day
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from services.gateway.cache import gdsf
from services.gateway.coalescing.batcher import CoalescingBatcher
from services.gateway.redis_store import (
    Record,
    as_bytes,
    dump,
    in_thread,
    load,
    load_all,
    page,
    page_size,
    redis_errors,
)

REQUEST_ID_SECONDS = 86400
MAX_PURGE_RECORDS = 1000
MAX_BATCH = 1000
READ_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class StoredEntry:
    """An entry as Redis holds it.

    Attributes:
        id: the entry's id.
        data: its bytes.
        record: the record that ``data`` contains.
        ttl: its remaining seconds; 0 means no limit.
    """

    id: str
    data: bytes
    record: Record
    ttl: float


class CacheStore:
    """Reads and writes entries and purges.

    Every method raises Unavailable if Redis is unreachable and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"
        self._reader: Any = None
        self._reads: CoalescingBatcher[str, Record | None] = CoalescingBatcher(
            self._read_batch, MAX_BATCH, 1, isolate_failures=False
        )
        self._put, self._delete, self._evict, self._record_hits, self._replace = map(
            redis.register_script,
            (gdsf.PUT, gdsf.DELETE, gdsf.EVICT, gdsf.RECORD_HITS, gdsf.REPLACE),
        )

    async def close(self) -> None:
        """Cancel the reads in progress and close their connection."""
        self._reads.close()
        if self._reader not in (None, self._redis):
            await self._reader.aclose()

    async def get(self, entry_id: str) -> Record | None:
        """Return an entry, or None; reads of concurrent callers share one MGET."""
        [record] = await self._reads.submit([entry_id])
        return record

    async def get_each(self, entry_ids: Sequence[str]) -> list[Record | None]:
        """Return an entry or None for each id; concurrent callers share one MGET."""
        return await self._reads.submit(entry_ids)

    async def get_many(self, entry_ids: Sequence[str]) -> list[Record]:
        """Return entries in the order of their ids, without those that do not exist."""
        if not entry_ids:
            return []
        return [record for record in await self._get_all(entry_ids) if record]

    async def put(
        self, partition: str, record: Record, ttl: float, purge_count: int | None = None
    ) -> int:
        """Write an entry for ``ttl`` seconds, 0 for no limit; return the bytes of all entries.

        With a ``purge_count``, a partition that was purged since rejects the entry and the method
        returns -1.
        """
        data = dump(record)
        arguments = [partition, record["id"], data, round(ttl * 1000), record["digest"]]
        arguments += ["" if purge_count is None else purge_count]
        arguments += [gdsf.estimate_bytes(data, record["vector"])]
        arguments += [gdsf.entry_cost(record), _now_ms()]
        return int(await self._run(self._put, arguments))

    async def curated_bytes(self) -> int:
        """Return the bytes of all curated entries."""
        async with redis_errors():
            return int(await self._redis.get(self._prefix + "curated") or 0)

    async def replace(self, stored: StoredEntry, record: Record) -> bool:
        """Replace an entry and keep its time to live. Return False if it has changed."""
        data = await in_thread(dump, record, len(stored.data))
        size = gdsf.estimate_bytes(data, record["vector"])
        arguments = [stored.id, stored.data, data, size, record["digest"]]
        return bool(await self._run(self._replace, arguments))

    async def delete(self, entry_ids: Sequence[str]) -> None:
        """Delete entries; ``removed`` returns them until search no longer holds them either.

        Entries that do not exist are ignored.
        """
        await self._run(self._delete, entry_ids)

    async def evict(self, max_bytes: float) -> int:
        """Evict entries until all take at most ``max_bytes``; return how many were evicted.

        Expired entries are deleted first. One call evicts at most ``gdsf.BATCH_SIZE`` entries.
        """
        return int(await self._run(self._evict, [max_bytes, _now_ms()]))

    async def record_hits(self, hits: Mapping[str, int]) -> None:
        """Add hits to entries, which raises their GDSF priority."""
        await self._run(self._record_hits, [part for hit in hits.items() for part in hit])

    async def removed(self) -> dict[str, tuple[str, str]]:
        """Return the model digest and the partition of removed entries that search may still hold.

        The keys are entry ids.
        """
        async with redis_errors():
            rows = await self._redis.hgetall(self._prefix + "leaving")
        pairs = {as_bytes(key).decode(): as_bytes(row).decode() for key, row in rows.items()}
        return {key: (row.partition(" ")[0], row.partition(" ")[2]) for key, row in pairs.items()}

    async def forget_removed(self, entry_ids: Sequence[str]) -> None:
        """Record that search no longer holds these removed entries."""
        async with redis_errors():
            await self._redis.hdel(self._prefix + "leaving", *entry_ids)

    async def page(self, partition: str, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of a partition's entries by id, and the next page's token.

        Expired entries are removed from the list on the way.
        """
        listed = f"{self._prefix}entries:{partition}"
        entry_ids, next_token = await page(self._redis, listed, size, token, self._entry_key)
        if not entry_ids:
            return [], next_token
        records = await self._get_all(entry_ids)
        expired = [key for key, record in zip(entry_ids, records, strict=True) if record is None]
        if expired:
            async with redis_errors():
                await self._redis.zrem(listed, *expired)
        return [record for record in records if record], next_token

    async def purge_count(self, partition: str) -> int:
        """Return how often a partition was purged."""
        async with redis_errors():
            return int(await self._redis.get(f"{self._prefix}purges:{partition}") or 0)

    async def begin_purge(self, partition: str) -> None:
        """Count a purge before it deletes, so that entries computed before it are rejected."""
        async with redis_errors():
            await self._redis.incr(f"{self._prefix}purges:{partition}")

    async def append_purge_record(self, partition: str, record: Record) -> None:
        """Append a purge record; a partition keeps its last 1,000."""
        key = f"{self._prefix}audit:{partition}"
        async with redis_errors():
            await self._redis.xadd(key, {"record": dump(record)}, maxlen=MAX_PURGE_RECORDS)

    async def purge_records(
        self, partition: str, size: int, token: str
    ) -> tuple[list[Record], str]:
        """Return a page of purge records, newest first, and the next page's token."""
        size = page_size(size)
        async with redis_errors():
            items = await self._redis.xrevrange(
                f"{self._prefix}audit:{partition}",
                max=f"({token}" if token else "+",
                count=size + 1,
            )
        records = [load(fields[b"record"]) or {} for _, fields in items[:size]]
        return records, as_bytes(items[size - 1][0]).decode() if len(items) > size else ""

    async def claim_request_id(self, partition: str, request_id: str, entry_id: str) -> str:
        """Bind a request id to an entry; return the entry that its first caller bound."""
        key = f"{self._prefix}request:{partition}:{request_id}"
        async with redis_errors():
            first = await self._redis.set(key, entry_id, nx=True, get=True, ex=REQUEST_ID_SECONDS)
        return as_bytes(first).decode() or entry_id

    async def _get_all(self, entry_ids: Sequence[str]) -> list[Record | None]:
        async with redis_errors():
            return await self._read(self._redis, entry_ids)

    async def _read_batch(self, entry_ids: Sequence[str]) -> list[Record | None]:
        """Read entries on a dedicated connection, under one timer for the whole exchange."""
        async with redis_errors():
            try:
                async with asyncio.timeout(READ_TIMEOUT):
                    if self._reader is None:
                        self._reader = await _own_connection(self._redis)
                    try:
                        return await self._read(self._reader, entry_ids)
                    except exceptions.ConnectionError:  # Redis closed the idle connection
                        return await self._read(self._reader, entry_ids)
            except TimeoutError as error:
                raise exceptions.TimeoutError("Redis did not reply in time.") from error

    async def _read(self, redis: Any, entry_ids: Sequence[str]) -> list[Record | None]:
        keys = [self._entry_key(entry_id) for entry_id in entry_ids]
        # MGET takes only keys of one slot; redis-py's cluster client splits the keys by slot.
        mget = redis.mget_nonatomic if isinstance(redis, RedisCluster) else redis.mget
        return await load_all(await mget(keys))

    def _entry_key(self, entry_id: str) -> str:
        return f"{self._prefix}entry:{entry_id}"

    async def _run(self, script: Any, arguments: Sequence[Any]) -> Any:
        async with redis_errors():
            return await script(keys=[self._prefix], args=arguments)


async def _own_connection(redis: Any) -> Any:
    """Return a client that holds one connection, without the pool's work and a timer per step.

    Both cost as much as the round trip to Redis. There is no such client for a cluster.
    """
    if isinstance(redis, RedisCluster):
        return redis
    client = redis.client()
    await client.initialize()
    client.connection.socket_timeout = None
    return client


def _now_ms() -> int:
    return round(time.time() * 1000)
