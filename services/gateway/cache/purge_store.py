"""The records of purges in Redis.

Keys, under the prefix of the settings:

- ``audit:<partition>``    stream of a scope's purge records
- ``audited:<tenant>``     the tenant's latest purge records, see ``recency``
"""

from typing import Any

from redis.asyncio import Redis

from services.gateway.cache.owners import Owner
from services.gateway.cache.recency import RecencyList
from services.gateway.redis_store import Record, as_bytes, dump, load, page_size, redis_errors

MAX_RECORDS = 1_000  # of a scope
MAX_TENANT_RECORDS = 10_000
KEPT_SECONDS = 365 * 86_400
# Keys: a stream. Arguments: the id of an item. Deletes the item, and the stream if it is empty.
_DELETE_ITEM = """
redis.call('XDEL', KEYS[1], ARGV[1])
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
"""


class PurgeStore:
    """Appends the records of purges, and reads them back.

    A scope keeps its last MAX_RECORDS, and a tenant its last MAX_TENANT_RECORDS.
    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:audit:"
        audited = prefix + "gateway:audited:"
        self._latest = RecencyList(redis, audited, MAX_TENANT_RECORDS, KEPT_SECONDS)
        self._delete_item: Any = redis.register_script(_DELETE_ITEM)

    async def append(self, owner: Owner, record: Record) -> None:
        """Append the record of a purge."""
        key = self._prefix + owner.partition
        async with redis_errors():
            item = await self._redis.xadd(key, {"record": dump(record)}, maxlen=MAX_RECORDS)
            await self._redis.expire(key, KEPT_SECONDS)
        member = f"{owner.partition} {as_bytes(item).decode()}"
        for dropped in await self._latest.add({owner.tenant: [member]}):
            partition, _, old = dropped.partition(" ")
            async with redis_errors():
                await self._delete_item(keys=[self._prefix + partition], args=[old])

    async def page(self, partition: str, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of a scope's records, newest first, and the next page's token."""
        size = page_size(size)
        async with redis_errors():
            items = await self._redis.xrevrange(
                self._prefix + partition,
                max=f"({token}" if token else "+",
                count=size + 1,
            )
        records = [load(fields[b"record"]) or {} for _, fields in items[:size]]
        return records, as_bytes(items[size - 1][0]).decode() if len(items) > size else ""
