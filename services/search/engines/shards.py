"""Collections of vector sets that are spread over the nodes of a cluster.

A collection ``c`` of n shards is n collections of vector sets, ``c#000`` and so on, each in a hash
slot of its own; a document lies in the shard that its id's CRC-32 names. Writes go to each
document's shard, all or nothing in each; searches go to all shards at once, and their hits are
merged by score. A shard that does not answer leaves a partial result that says so. The words of a
text are ranked by the statistics of its shard.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from services import deadlines
from services.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    Failure,
    NotFound,
    Unavailable,
)
from services.search.engines.catalog import Record, Records, changing
from services.search.engines.connection import PATIENCE, retried
from services.search.engines.documents import Documents
from services.search.engines.engine import Change, Size
from services.search.engines.vector_sets.engine import VectorSets
from services.search.filters import Condition
from services.search.types import Collection, Document, Hit, Query, Result

_TRIES = 5
# The share of the caller's time that one shard may take before an answer goes without it.
_SHARD_SHARE = 0.5

Item = TypeVar("Item")
Made = TypeVar("Made")


def names(collection: Collection) -> list[str]:
    """Return the names of a collection's shards."""
    return [f"{collection.name}#{number:03}" for number in range(collection.shards)]


def place(collection: Collection, key: str) -> str:
    """Return the name of the shard that a document lies in."""
    return f"{collection.name}#{zlib.crc32(key.encode()) % collection.shards:03}"


async def _spread(
    collection: Collection,
    items: Sequence[Item],
    key: Callable[[Item], str],
    work: Callable[[str, list[Item]], Awaitable[Sequence[Made]]],
) -> list[Made]:
    """Do work in each item's shard, at once; return what was made of each item, in order."""
    parts: dict[str, list[int]] = {}
    for at, item in enumerate(items):
        parts.setdefault(place(collection, key(item)), []).append(at)
    done = await asyncio.gather(
        *(work(shard, [items[at] for at in mine]) for shard, mine in parts.items())
    )
    made = {
        at: one
        for mine, ones in zip(parts.values(), done, strict=True)
        for at, one in zip(mine, ones, strict=True)
    }
    return [made[at] for at in range(len(items))]


class ShardedDocuments:
    """Reads documents of collections, be they in one place or in shards."""

    def __init__(self, documents: Documents, records: Records) -> None:
        self._documents = documents
        self._records = records

    async def get(self, record: Record, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id; None for what is not there."""
        if not record.collection.is_sharded:
            return await self._documents.get(record, ids)

        async def read(shard: str, mine: list[str]) -> list[Document | None]:
            return await self._documents.get(await self._records.get(shard), mine)

        return await _spread(record.collection, ids, str, read)

    async def ids(self, record: Record, after: str, count: int) -> list[str]:
        """Return ids in their order, after one."""
        found = [await self._documents.ids(one, after, count) async for one in self._all(record)]
        return sorted((key for ids in found for key in ids), key=str.encode)[:count]

    async def sample(self, record: Record, count: int, seed: int) -> list[str]:
        """Return ids of documents chosen at random, all if there are no more."""
        if not record.collection.is_sharded:
            return await self._documents.sample(record, count, seed)
        # Shards are alike by their hash, so as many of each will do.
        share = -(-count // record.collection.shards)
        found = [await self._documents.sample(one, share, seed) async for one in self._all(record)]
        return [key for ids in found for key in ids][:count]

    async def count(self, record: Record) -> int:
        """Return the number of documents that have not expired."""
        return sum([await self._documents.count(one) async for one in self._all(record)])

    async def memory(self, record: Record) -> int:
        """Return about how many bytes the documents take."""
        return sum([await self._documents.memory(one) async for one in self._all(record)])

    async def _all(self, record: Record) -> AsyncIterator[Record]:
        if not record.collection.is_sharded:
            yield record
            return
        for shard in names(record.collection):
            yield await self._records.get(shard)


class ShardedSets:
    """The engine over many vector sets."""

    def __init__(self, sets: VectorSets, records: Records, documents: ShardedDocuments) -> None:
        self._sets = sets
        self._records = records
        self._documents = documents

    async def prepare(self, record: Record) -> None:
        """Create the shards."""
        for shard in names(record.collection):
            await self._records.create(replace(record.collection, name=shard), listed=False)

    async def dismantle(self, record: Record) -> None:
        """Delete the shards."""
        for shard in names(record.collection):
            while True:
                try:
                    if await self._records.delete(await self._records.read(shard)):
                        break
                except NotFound:
                    break

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write documents, all or nothing in each shard; return for each whether it is new."""
        record = await self._records.get(collection.name)
        if record.collection != collection:
            raise changing(collection.name)

        async def write(shard: str, mine: list[Document]) -> list[bool]:
            for _ in range(_TRIES):
                try:
                    known = await self._records.get(shard)
                    return await self._sets.upsert(known.collection, mine)
                except Aborted:
                    await self._records.read(shard)
            raise changing(collection.name)

        return await _spread(collection, documents, lambda document: document.id, write)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""

        async def remove(shard: str, mine: list[str]) -> list[int]:
            return [await self._sets.delete(shard, mine), *([0] * (len(mine) - 1))]

        collection = (await self._records.get(name)).collection
        return sum(await _spread(collection, ids, str, remove))

    async def matching(self, name: str, condition: Condition | None) -> list[str]:
        """Return the ids of all documents that meet a condition, in their order."""
        collection = (await self._records.get(name)).collection
        found = await asyncio.gather(
            *(self._sets.matching(shard, condition) for shard in names(collection))
        )
        return sorted((key for ids in found for key in ids), key=str.encode)

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Ask every shard at once and merge what they find."""
        asked = [await self._by_vector(query) for query in queries]
        shards = list(dict.fromkeys(one for query in asked for one in names(query.collection)))
        tasks = {shard: asyncio.create_task(self._ask(shard, asked)) for shard in shards}
        left = deadlines.time_left()
        patience = PATIENCE if left is None else min(PATIENCE, left * _SHARD_SHARE)
        try:
            await asyncio.wait(tasks.values(), timeout=patience)
            answers = {shard: _answer(task) for shard, task in tasks.items()}
        finally:
            for task in tasks.values():
                task.cancel()
        return [
            _merged(query, [_of(answers[shard], at) for shard in names(query.collection)])
            for at, query in enumerate(queries)
        ]

    async def size(self, record: Record) -> Size:
        """Return what the shards take together, and the longest vector that all can hold."""
        sizes = [
            await self._sets.size(await self._records.get(shard))
            for shard in names(record.collection)
        ]
        return Size(sum(one.memory for one in sizes), min(one.max_norm for one in sizes))

    async def maintain(self, name: str) -> None:
        """Delete what has expired; end rebuilds that were cut short."""
        for shard in names((await self._records.read(name)).collection):
            await self._sets.maintain(shard)

    async def add_fields(self, record: Record) -> None:
        """Declare the fields that the target has more, in every shard."""
        for shard in names(record.collection):
            known = await self._records.read(shard)
            grown = replace(known.collection, fields=record.built.fields)
            if known.collection == grown:
                continue
            changed = await self._records.change(known, target=grown)
            if changed is None:
                raise changing(record.collection.name)
            await self._sets.add_fields(changed)
            if not await self._records.change(changed, collection=grown, target=None):
                raise changing(record.collection.name)

    async def write_fields(self, record: Record, changes: Sequence[Change]) -> str:
        """Change the fields of documents, all or nothing in each shard."""

        async def write(shard: str, mine: list[Change]) -> list[str]:
            done = await self._sets.write_fields(await self._records.get(shard), mine)
            if done == "stale":
                await self._records.read(shard)
            return [done] * len(mine)

        done = await _spread(record.collection, changes, lambda one: one.document.id, write)
        return next((one for one in done if one != "updated"), "updated")

    async def reindex(self, name: str, target: Collection) -> None:
        """Refuse: shards would change one after another."""
        raise FailedPrecondition(
            "SHARDED",
            "A collection in shards is not indexed anew: import it into another one and move the"
            " alias.",
            field="collection",
            collection=name,
        )

    async def indexed(self, record: Record) -> int:
        """Return how many documents the shards hold."""
        return await self._documents.count(record)

    async def _by_vector(self, query: Query) -> Query:
        """Return the query as it is put to every shard."""
        depth = query.offset + query.limit
        ef = query.ef or query.collection.ef_runtime
        put = replace(query, offset=0, limit=depth, ef=ef)
        if not query.document_id:
            return put
        record = await self._records.get(query.collection.name)
        [document] = await self._documents.get(record, [query.document_id])
        if document is None:
            raise NotFound(
                "DOCUMENT_NOT_FOUND",
                "There is no document of this id to search by.",
                field="document_id",
                id=query.document_id,
            )
        return replace(put, limit=depth + 1, vector=document.vector, document_id="")

    @retried
    async def _ask(self, shard: str, queries: Sequence[Query]) -> dict[int, Result]:
        """Put to a shard those of the queries that are for it."""
        mine = [at for at, one in enumerate(queries) if shard in names(one.collection)]
        for _ in range(_TRIES):
            known = (await self._records.get(shard)).collection
            try:
                found = await self._sets.search(
                    [replace(queries[at], collection=known) for at in mine]
                )
                return dict(zip(mine, found, strict=True))
            except Aborted:
                await self._records.read(shard)
        raise changing(shard)


def _answer(task: "asyncio.Task[dict[int, Result]]") -> "dict[int, Result] | Failure":
    """Return what a shard has said, or why it said nothing; raise what is no outage."""
    if not task.done():
        return Unavailable("SHARD_TIMEOUT", "The shard did not answer in time.")
    error = task.exception()
    if isinstance(error, Unavailable | DeadlineExceeded):
        return error
    if error:
        raise error
    return task.result()


def _of(answer: "dict[int, Result] | Failure", at: int) -> "Result | Failure":
    return answer if isinstance(answer, Failure) else answer[at]


def _merged(query: Query, answers: Sequence["Result | Failure"]) -> Result:
    """Join the hits of all shards. Raises Unavailable if none has answered."""
    results = [one for one in answers if isinstance(one, Result)]
    if not results:
        raise next(one for one in answers if isinstance(one, Failure))
    hits = [hit for one in results for hit in one.hits if hit.id != query.document_id]
    hits.sort(key=_order(query))
    missing = len(answers) - len(results)
    reasons = [f"{missing} of {len(answers)} shards did not answer"] if missing else []
    reasons += dict.fromkeys(one.partial_reason for one in results if one.partial_reason)
    return Result(
        hits[query.offset : query.offset + query.limit],
        max(one.took for one in results),
        "; ".join(reasons),
        [line for one in results for line in one.explanation],
    )


def _order(query: Query) -> Callable[[Hit], tuple[float, str]]:
    if query.text:
        return lambda hit: (-hit.score, hit.id)
    if query.vector is None and not query.document_id:
        return lambda hit: (0.0, hit.id)
    return lambda hit: (hit.distance, hit.id)
