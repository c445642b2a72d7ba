"""The cache's entries, purge counts and request ids in Redis.

Keys, all under the prefix of the settings (see ``gdsf``, ``purge_store``, ``usage_store`` and
``error_budget.store`` for the others):

- ``entry:<id>``                   an entry, JSON
- ``entries:<partition>``          sorted set of the ids of a partition's entries
- ``purge_counts:<tenant>``        hash: how often the scopes of each purge group were purged
- ``request:<partition>:<id>``     the entry that a request id created, for a day
- ``requested:<tenant>``           the tenant's latest request ids, see ``recency``
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from services.gateway.cache import gdsf
from services.gateway.cache.owners import Owner
from services.gateway.cache.recency import RecencyList
from services.gateway.coalescing.batcher import CoalescingBatcher
from services.gateway.redis_store import (
    Record,
    as_bytes,
    dump,
    in_thread,
    load_all,
    one_slot,
    page,
    redis_errors,
)

REQUEST_ID_SECONDS = 86400
MAX_REQUEST_IDS = 100_000  # of a tenant
_LONG_REQUEST_ID = 64
MAX_BATCH = 1000
READ_TIMEOUT = 5.0  # seconds


class CacheBytes(NamedTuple):
    """The bytes of all entries, and those of one tenant's entries; both -1 if unknown."""

    total: int
    tenant: int


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
    """Reads and writes entries.

    Every method raises Unavailable if Redis is unreachable and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = one_slot(redis, prefix + "gateway:")
        self._reader: Any = None
        self._reads: CoalescingBatcher[str, Record | None] = CoalescingBatcher(
            self._read_batch, MAX_BATCH, 1, isolate_failures=False
        )
        self._put, self._delete, self._evict, self._record_hits, self._replace = map(
            redis.register_script,
            (gdsf.PUT, gdsf.DELETE, gdsf.EVICT, gdsf.RECORD_HITS, gdsf.REPLACE),
        )
        requested = self._prefix + "requested:"
        self._requested = RecencyList(redis, requested, MAX_REQUEST_IDS, REQUEST_ID_SECONDS)

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

    async def existing(self, entry_ids: Collection[str]) -> set[str]:
        """Return those of the ids that are ids of entries."""
        ids = list(dict.fromkeys(entry_ids))
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for entry_id in ids:
                pipe.exists(self._entry_key(entry_id))
            found = await pipe.execute()
        return {entry_id for entry_id, exists in zip(ids, found, strict=True) if exists}

    async def put(
        self, owner: Owner, record: Record, ttl: float, purge_count: int | None = None
    ) -> CacheBytes:
        """Write an entry for ``ttl`` seconds, 0 for no limit; return the bytes of the entries.

        With a ``purge_count``, a scope that was purged since rejects the entry.
        """
        data = dump(record)
        arguments = [owner.partition, record["id"], data, round(ttl * 1000), record["digest"]]
        arguments += ["" if purge_count is None else purge_count]
        arguments += [gdsf.estimate_bytes(data, record["vector"])]
        arguments += [gdsf.entry_cost(record), _now_ms(), owner.tenant, owner.purge_group]
        return CacheBytes(*map(int, await self._run(self._put, arguments)))

    async def curated_bytes(self, owner: Owner) -> CacheBytes:
        """Return the bytes of all curated entries, and of those of the owner's tenant."""
        key = self._prefix + "curated"
        async with redis_errors():
            found = [await self._redis.get(one) for one in (key, f"{key}:{owner.tenant}")]
        return CacheBytes(*(int(one or 0) for one in found))

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

    async def evict(self, max_bytes: float, tenant_max_bytes: float = math.inf) -> int:
        """Evict entries while they take too many bytes; return how many were evicted.

        All may take ``max_bytes``, and those of each tenant ``tenant_max_bytes``. Expired entries
        are deleted first. One call evicts at most ``gdsf.BATCH_SIZE`` entries.
        """
        return int(await self._run(self._evict, [max_bytes, _now_ms(), tenant_max_bytes]))

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

    async def purge_count(self, owner: Owner) -> int:
        """Return how often scopes of the owner's purge group were purged."""
        async with redis_errors():
            count = await self._redis.hget(self._purge_counts(owner), owner.purge_group)
        return int(count or 0)

    async def begin_purge(self, owner: Owner) -> None:
        """Count a purge before it deletes, so that entries computed before it are rejected."""
        async with redis_errors():
            await self._redis.hincrby(self._purge_counts(owner), owner.purge_group, 1)

    async def claim_request_id(self, owner: Owner, request_id: str, entry_id: str) -> str:
        """Bind a request id to an entry; return the entry that its first caller bound."""
        if len(request_id) > _LONG_REQUEST_ID:
            request_id = hashlib.sha256(request_id.encode()).hexdigest()
        member = f"{owner.partition}:{request_id}"
        key = f"{self._prefix}request:{member}"
        async with redis_errors():
            first = await self._redis.set(key, entry_id, nx=True, get=True, ex=REQUEST_ID_SECONDS)
        if first is None:
            dropped = await self._requested.add({owner.tenant: [member]})
            if dropped:
                async with redis_errors():
                    await self._redis.delete(*(f"{self._prefix}request:{one}" for one in dropped))
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

    def _purge_counts(self, owner: Owner) -> str:
        return f"{self._prefix}purge_counts:{owner.tenant}"

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
