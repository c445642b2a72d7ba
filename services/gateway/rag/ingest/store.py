"""Documents in Redis: their texts, and the ids of the chunks that search may hold.

Keys, all under the prefix of the settings:

- ``gateway:document:<hash tag>:<id>``   a document's record without its text, JSON
- ``gateway:text:<hash tag>:<id>``       a document's extracted text, UTF-8
- ``gateway:documents:<hash tag>``       sorted set of the ids of the documents
- ``gateway:epoch:<hash tag>``           counter of the changes to a collection of documents
- ``gateway:chunks:<hash tag>:<id>``     set of the ids of all chunks that search may hold
- ``gateway:turns:<hash tag>``           hash of the current fence of each document being changed
- ``gateway:copy:<hash tag>``            the search collection to which a re-embedding copies it

The hash tag ``{<tenant's tag>/<collection>}`` keeps the keys of a collection in one slot of a
cluster, because scripts change them together. See ``tenants`` for the tenant's tag.

Records of earlier versions of memetwin contain the text.

A writer acquires a lease on a document. The lease's fence is the collection's epoch at that time.
A later lease on the same document invalidates the earlier one: its holder gets FenceLost and starts
again. So one of two concurrent versions wins as a whole. If a fence remains after all writers have
finished, a writer died midway.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.errors import Unavailable
from services.gateway.rag.ingest.types import DocumentCollection, document_of_chunk
from services.gateway.redis_store import Record, as_bytes, dump, load, load_all, page, redis_errors
from services.gateway.tenants import Tenant

# KEYS: chunks, epoch, turns. ARGV: document id, chunk ids as JSON.
_ACQUIRE = """
local chunks = redis.call('SMEMBERS', KEYS[1])
for _, id in ipairs(cjson.decode(ARGV[2])) do redis.call('SADD', KEYS[1], id) end
local fence = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[3], ARGV[1], fence)
return {chunks, fence}
"""
# KEYS also: document, documents, text. ARGV: document id, fence, record, text, chunk ids as JSON.
_PUT = """
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[4], ARGV[3])
redis.call('SET', KEYS[6], ARGV[4])
redis.call('ZADD', KEYS[5], 0, ARGV[1])
redis.call('DEL', KEYS[1])
for _, id in ipairs(cjson.decode(ARGV[5])) do redis.call('SADD', KEYS[1], id) end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('INCR', KEYS[2])
return 1
"""
_DELETE = """
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[4], KEYS[6], KEYS[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('INCR', KEYS[2])
return 1
"""
# KEYS: epoch, turns.
_REVOKE = """
local fence = redis.call('INCR', KEYS[1])
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do redis.call('HSET', KEYS[2], id, fence) end
"""


class FenceLost(Unavailable):
    """Another writer has acquired the document's lease; the holder of this lease starts again."""


@dataclass(frozen=True)
class FencingLease:
    """The right to change a document. It ends when another writer acquires it.

    Attributes:
        fence: the fencing token; the higher token wins.
        earlier_chunks: ids of the chunks that search may have held when the lease began.
    """

    collection: DocumentCollection
    document: str
    fence: int
    earlier_chunks: frozenset[str]


class DocumentStore:
    """Reads and writes documents.

    Every method raises Unavailable if Redis is unreachable, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix + "gateway:"

    async def collections(self) -> list[DocumentCollection]:
        """Return the collections of documents, of all tenants, that have a document."""
        async with redis_errors():
            keys = self._redis.scan_iter(f"{self._prefix}documents:{{*", count=1000)
            return sorted([_collection_of_key(as_bytes(key)) async for key in keys])

    async def epochs(self, collections: Sequence[DocumentCollection]) -> list[int]:
        """Return the number of changes of each collection of documents."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for collection in collections:
                pipe.get(self._key("epoch", collection))
            values = await pipe.execute()
        return [int(value or 0) for value in values]

    def advance_epoch(self, transaction: Pipeline, collection: DocumentCollection) -> None:
        """Count a change of a collection in a transaction; it invalidates cached answers."""
        transaction.incr(self._key("epoch", collection))

    async def get(self, collection: DocumentCollection, key: str) -> Record | None:
        """Return the record of a document with its text, or None."""
        keys = [self._key(kind, collection, key) for kind in ("document", "text")]
        async with redis_errors():
            value, text = await self._redis.mget(keys)
        record = load(value)
        if record is None or text is None:
            return record
        return record | {"text": as_bytes(text).decode()}

    async def get_with_state(
        self, collection: DocumentCollection, key: str
    ) -> tuple[Record | None, bool]:
        """Return a document's record without its text, and whether its last change is complete."""
        async with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._key("document", collection, key))
            pipe.hexists(self._key("turns", collection), key)
            record, in_change = await pipe.execute()
        return load(record), not in_change

    async def page(
        self, collection: DocumentCollection, size: int, token: str
    ) -> tuple[list[Record], str]:
        """Return a page of records in the order of their ids, without texts, and the next token."""
        keys, next_token = await page(
            self._redis,
            self._key("documents", collection),
            size,
            token,
            lambda key: self._key("document", collection, key),
        )
        async with redis_errors():
            values = (
                await self._redis.mget([self._key("document", collection, key) for key in keys])
                if keys
                else []
            )
        return [record for record in await load_all(values) if record], next_token

    async def acquire(
        self, collection: DocumentCollection, key: str, new_chunks: Sequence[str]
    ) -> FencingLease:
        """Acquire the lease on a document, record its new chunks and count a change.

        It records chunks before search gets them, so that a later ingest can always delete them.
        It counts the change before it happens, so that no cached answer outlives it.
        """
        arguments = [key, dump(new_chunks)]
        chunks, fence = await self._run(_ACQUIRE, collection, key, arguments)
        earlier = frozenset(as_bytes(one).decode() for one in chunks)
        return FencingLease(collection, key, fence, earlier)

    async def chunks(self, lease: FencingLease) -> set[str]:
        """Return the ids of all chunks that search may hold. Raises FenceLost.

        Call it before deleting chunks, since after a lost lease they may belong to another version.
        """
        chunks, _, turns, *_ = self._keys(lease.collection, lease.document)
        async with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.smembers(chunks)
            pipe.hget(turns, lease.document)
            members, fence = await pipe.execute()
        _check_fence(as_bytes(fence) == b"%d" % lease.fence)
        return {as_bytes(one).decode() for one in members}

    async def put(self, lease: FencingLease, record: Record, chunks: Sequence[str]) -> None:
        """Write a document whose chunks are in search, and end the lease. Raises FenceLost."""
        rest = dict(record)
        text = rest.pop("text").encode()
        arguments = [lease.document, lease.fence, dump(rest), text, dump(chunks)]
        _check_fence(await self._run(_PUT, lease.collection, lease.document, arguments))

    async def delete(self, lease: FencingLease) -> None:
        """Delete a document whose chunks are deleted, and end the lease. Raises FenceLost."""
        arguments = [lease.document, lease.fence]
        _check_fence(await self._run(_DELETE, lease.collection, lease.document, arguments))

    async def revoke_leases(self, collection: DocumentCollection) -> None:
        """Invalidate all leases on documents of a collection, so that their holders start again."""
        keys = [self._key(kind, collection) for kind in ("epoch", "turns")]
        async with redis_errors():
            call: Any = self._redis.eval(_REVOKE, len(keys), *keys)
            await call

    async def unlisted(self, collection: DocumentCollection, chunk_ids: Sequence[str]) -> set[str]:
        """Return those of the chunks that no document has, so that search must not serve them."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for chunk_id in chunk_ids:
                key = document_of_chunk(chunk_id)
                pipe.sismember(self._key("chunks", collection, key), chunk_id)
            found = await pipe.execute()
        return {key for key, is_listed in zip(chunk_ids, found, strict=True) if not is_listed}

    async def set_copy(self, collection: DocumentCollection, name: str) -> None:
        """Record the search collection to which chunks are copied; empty when that has ended."""
        key = self._key("copy", collection)
        async with redis_errors():
            await (self._redis.set(key, name) if name else self._redis.delete(key))

    async def copy(self, collection: DocumentCollection) -> str:
        """Return the search collection to which the collection's chunks are copied, or nothing."""
        async with redis_errors():
            return as_bytes(await self._redis.get(self._key("copy", collection))).decode()

    async def _run(
        self, script: str, collection: DocumentCollection, key: str, arguments: Sequence[Any]
    ) -> Any:
        keys = self._keys(collection, key)
        async with redis_errors():
            call: Any = self._redis.eval(script, len(keys), *keys, *arguments)
            return await call

    def _keys(self, collection: DocumentCollection, key: str) -> list[str]:
        return [
            self._key("chunks", collection, key),
            self._key("epoch", collection),
            self._key("turns", collection),
            self._key("document", collection, key),
            self._key("documents", collection),
            self._key("text", collection, key),
        ]

    def _key(self, kind: str, collection: DocumentCollection, *document: str) -> str:
        return self._prefix + ":".join([kind, collection.hash_tag, *document])


def _collection_of_key(key: bytes) -> DocumentCollection:
    tag, _, name = key.decode().rpartition("{")[2].removesuffix("}").partition("/")
    return DocumentCollection(name, Tenant(tag))


def _check_fence(current: Any) -> None:
    if not current:
        raise FenceLost(
            "DOCUMENT_CHANGED",
            "The document is being updated by another request. Retry after the hint.",
            # Random, so that two writers that collided do not collide again.
            retry_after=random.uniform(0.05, 0.5),  # noqa: S311 - not a secret
        )
