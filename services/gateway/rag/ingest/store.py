"""Documents in Redis: their texts, and which chunks of them search may hold.

Keys, all under the prefix of the settings:

- ``document:<collection>:<id>``   a document's extracted text and version, JSON
- ``documents:<collection>``       sorted set of the ids of the documents
- ``epoch:<collection>``           counts changes to a collection of documents
- ``chunks:<collection>:<id>``     set of the ids of all chunks of a document that search may hold
- ``turns:<collection>``           hash by document: the epoch in which a change of it began

Who changes a document is given a turn; it is lost when another replica begins to change the
document, and who has lost it begins again. So of two versions at once one stays, whole. A turn that
is still there when nobody changes the document tells that a change has died midway.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from services.errors import Unavailable
from services.gateway.redis_store import Record, as_bytes, dump, load, page, redis_errors

# Keys of all three: chunks, epoch, turns. ARGV: id, then ids of chunks.
_ANNOUNCE = """
local held = redis.call('SMEMBERS', KEYS[1])
for at = 2, #ARGV do redis.call('SADD', KEYS[1], ARGV[at]) end
local turn = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[3], ARGV[1], turn)
return {held, turn}
"""
# More keys: document, documents. ARGV: id, turn, record, then ids of chunks.
_WRITE = """
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[4], ARGV[3])
redis.call('ZADD', KEYS[5], 0, ARGV[1])
redis.call('DEL', KEYS[1])
for at = 4, #ARGV do redis.call('SADD', KEYS[1], ARGV[at]) end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('INCR', KEYS[2])
return 1
"""
_DELETE = """
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[4], KEYS[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('INCR', KEYS[2])
return 1
"""


class FenceLost(Unavailable):
    """Somebody else has begun to change the document; whoever began before begins again."""


@dataclass(frozen=True)
class Turn:
    """A change of a document that was begun; ``held`` are the chunks that search had before."""

    collection: str
    document: str
    number: int
    held: frozenset[str]


class DocumentStore:
    """Reads and writes documents.

    Every method raises Unavailable if Redis is away, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix + "gateway:"

    async def epochs(self, collections: Sequence[str]) -> list[int]:
        """Return how often each collection of documents has changed."""
        async with redis_errors():
            values = await self._redis.mget([self._key("epoch", name) for name in collections])
        return [int(value or 0) for value in values]

    async def advance_epoch(self, collection: str) -> None:
        """Count a change of a collection: answers that were cached before it are not served."""
        async with redis_errors():
            await self._redis.incr(self._key("epoch", collection))

    async def document(self, collection: str, key: str) -> Record | None:
        """Read an ingested document."""
        async with redis_errors():
            return load(await self._redis.get(self._key("document", collection, key)))

    async def state(self, collection: str, key: str) -> tuple[Record | None, bool]:
        """Read a document, and whether it is whole: no change of it was begun and has not ended."""
        async with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._key("document", collection, key))
            pipe.hexists(self._key("turns", collection), key)
            record, changing = await pipe.execute()
        return load(record), not changing

    async def documents(self, collection: str, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of documents in the order of their ids, and the next page's token."""
        keys, following = await page(self._redis, self._key("documents", collection), size, token)
        async with redis_errors():
            values = (
                await self._redis.mget([self._key("document", collection, key) for key in keys])
                if keys
                else []
            )
        return [record for record in map(load, values) if record], following

    async def begin(self, collection: str, key: str, chunks: Sequence[str]) -> Turn:
        """Note which chunks a document will get, and count the change before it happens.

        So whatever is written can be found and deleted, and no cached answer outlives the change.
        """
        held, number = await self._call(_ANNOUNCE, collection, key, [key, *chunks])
        return Turn(collection, key, number, frozenset(as_bytes(one).decode() for one in held))

    async def held(self, turn: Turn) -> set[str]:
        """Return the ids of all chunks that search may hold. Raises FenceLost.

        Ask before deleting some: they may be another version's by now.
        """
        chunks, _, turns, *_ = self._names(turn.collection, turn.document)
        async with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.smembers(chunks)
            pipe.hget(turns, turn.document)
            held, number = await pipe.execute()
        _check(as_bytes(number) == b"%d" % turn.number)
        return {as_bytes(one).decode() for one in held}

    async def write_document(self, turn: Turn, record: Record, chunks: Sequence[str]) -> None:
        """Write a document whose chunks are in search; count the change. Raises FenceLost."""
        words = [turn.document, turn.number, dump(record), *chunks]
        _check(await self._call(_WRITE, turn.collection, turn.document, words))

    async def delete_document(self, turn: Turn) -> None:
        """Delete a document whose chunks are gone; count the change. Raises FenceLost."""
        words = [turn.document, turn.number]
        _check(await self._call(_DELETE, turn.collection, turn.document, words))

    async def _call(self, script: str, collection: str, key: str, words: Sequence[Any]) -> Any:
        keys = self._names(collection, key)
        async with redis_errors():
            call: Any = self._redis.eval(script, len(keys), *keys, *words)
            return await call

    def _names(self, collection: str, key: str) -> list[str]:
        return [
            self._key("chunks", collection, key),
            self._key("epoch", collection),
            self._key("turns", collection),
            self._key("document", collection, key),
            self._key("documents", collection),
        ]

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)


def _check(ours: Any) -> None:
    if not ours:
        raise FenceLost(
            "DOCUMENT_CHANGED",
            "Somebody else changes this document; try again.",
            retry_after=random.uniform(0.05, 0.5),  # noqa: S311 - two that meet shall not meet again
        )
