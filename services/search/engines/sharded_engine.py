"""The engine of collections whose vector sets are spread over the nodes of a cluster.

A write is all or nothing within each shard. A search asks all shards at once and merges their hits
by score. A shard that does not answer makes the result partial. Each shard ranks texts by its own
statistics.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services import deadlines
from services.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    Failure,
    NotFound,
    Unavailable,
)
from services.search.engines.catalog import Catalog, collection_changing
from services.search.engines.documents import query_document_not_found
from services.search.engines.engine import Engine, FieldsWrite, IndexStatus
from services.search.engines.record import Record
from services.search.engines.redis_errors import REDIS_TIMEOUT, retry_reads
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.engines.shards import merge, scatter, shard_names
from services.search.filters import Condition
from services.search.types import Collection, Document, Query, Result

_MAX_ATTEMPTS = 5
# The share of the caller's remaining time after which a search goes on without a silent shard.
_SHARD_TIME_SHARE = 0.5

ShardAnswer = dict[int, Result] | Failure


class ShardedEngine:
    """Distributes every operation over the shards, which another engine stores."""

    def __init__(self, engine: Engine, catalog: Catalog, documents: ShardedDocumentStore) -> None:
        self._engine = engine
        self._catalog = catalog
        self._documents = documents

    async def create(self, record: Record) -> None:
        """Create the shards."""
        for shard in shard_names(record.collection):
            await self._catalog.create(replace(record.collection, name=shard), listed=False)

    async def drop(self, record: Record) -> None:
        """Delete the shards."""
        for shard in shard_names(record.collection):
            while True:
                try:
                    if await self._catalog.delete(await self._catalog.read(shard)):
                        break
                except NotFound:
                    break

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write documents, all or nothing in each shard; return for each whether it is new."""
        record = await self._catalog.get(collection.name)
        if record.collection != collection:
            raise collection_changing(collection.name)

        async def write(shard: str, shard_documents: list[Document]) -> list[bool]:
            for _ in range(_MAX_ATTEMPTS):
                try:
                    current = (await self._catalog.get(shard)).collection
                    return await self._engine.upsert(current, shard_documents)
                except Aborted:
                    await self._catalog.read(shard)
            raise collection_changing(collection.name)

        return await scatter(collection, documents, lambda document: document.id, write)

    async def write_fields(self, record: Record, writes: Sequence[FieldsWrite]) -> str:
        """Replace the fields of documents, all or nothing in each shard; return the outcome."""

        async def write(shard: str, shard_writes: list[FieldsWrite]) -> list[str]:
            outcome = await self._engine.write_fields(await self._catalog.get(shard), shard_writes)
            if outcome == "stale":
                await self._catalog.read(shard)
            return [outcome] * len(shard_writes)

        outcomes = await scatter(record.collection, writes, lambda one: one.document.id, write)
        return next((outcome for outcome in outcomes if outcome != "updated"), "updated")

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""

        async def delete(shard: str, shard_ids: list[str]) -> list[int]:
            deleted = await self._engine.delete(shard, shard_ids)
            return [deleted, *([0] * (len(shard_ids) - 1))]

        collection = (await self._catalog.get(name)).collection
        return sum(await scatter(collection, ids, str, delete))

    async def matching_ids(self, name: str, condition: Condition | None) -> list[str]:
        """Return the sorted ids of all documents that match a condition."""
        collection = (await self._catalog.get(name)).collection
        found = await asyncio.gather(
            *(self._engine.matching_ids(shard, condition) for shard in shard_names(collection))
        )
        return sorted((document_id for ids in found for document_id in ids), key=str.encode)

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Search all shards at once and merge their results."""
        shard_queries = [await self._shard_query(query) for query in queries]
        shards = {name for query in shard_queries for name in shard_names(query.collection)}
        tasks = {
            shard: asyncio.create_task(self._search_shard(shard, shard_queries))
            for shard in sorted(shards)
        }
        left = deadlines.time_left()
        timeout = REDIS_TIMEOUT if left is None else min(REDIS_TIMEOUT, left * _SHARD_TIME_SHARE)
        try:
            await asyncio.wait(tasks.values(), timeout=timeout)
            answers = {shard: _answer(task) for shard, task in tasks.items()}
        finally:
            for task in tasks.values():
                task.cancel()
        return [
            merge(query, [_at(answers[shard], at) for shard in shard_names(query.collection)])
            for at, query in enumerate(queries)
        ]

    async def add_fields(self, record: Record) -> None:
        """Declare the fields that the target has in addition, in every shard."""
        for name in shard_names(record.collection):
            shard = await self._catalog.read(name)
            target = replace(shard.collection, fields=record.newest_collection.fields)
            if shard.collection == target:
                continue
            updated = await self._catalog.update(shard, target=target)
            if updated is None:
                raise collection_changing(record.collection.name)
            await self._engine.add_fields(updated)
            if not await self._catalog.update(updated, collection=target, target=None):
                raise collection_changing(record.collection.name)

    async def reindex(self, name: str, target: Collection) -> None:
        """Refuse: the shards would change one after another."""
        raise FailedPrecondition(
            "SHARDED",
            "A sharded collection cannot be reindexed; import it into a new collection and assign"
            " the alias to that.",
            field="collection",
            collection=name,
        )

    async def indexed_count(self, record: Record) -> int:
        """Return how many documents the shards contain."""
        return await self._documents.count(record)

    async def status(self, record: Record) -> IndexStatus:
        """Return the memory of all shards, and the largest norm that each of them can store."""
        statuses = [
            await self._engine.status(await self._catalog.get(shard))
            for shard in shard_names(record.collection)
        ]
        return IndexStatus(
            sum(one.memory for one in statuses),
            min(one.max_norm for one in statuses),
            warnings=list(dict.fromkeys(text for one in statuses for text in one.warnings)),
        )

    async def maintain(self, name: str) -> None:
        """Delete expired documents and resume interrupted reindexes."""
        for shard in shard_names((await self._catalog.read(name)).collection):
            await self._engine.maintain(shard)

    async def _shard_query(self, query: Query) -> Query:
        """Return the query that every shard receives."""
        ef = query.ef or query.collection.ef_runtime
        shard_query = replace(query, offset=0, limit=query.page_end, ef=ef)
        if not query.document_id:
            return shard_query
        record = await self._catalog.get(query.collection.name)
        [document] = await self._documents.get(record, [query.document_id])
        if document is None:
            raise query_document_not_found(query.document_id)
        return replace(
            shard_query, limit=query.page_end + 1, vector=document.vector, document_id=""
        )

    @retry_reads
    async def _search_shard(self, shard: str, queries: Sequence[Query]) -> dict[int, Result]:
        """Answer those queries whose collection has this shard; return results by position."""
        positions = [
            at for at, query in enumerate(queries) if shard in shard_names(query.collection)
        ]
        for _ in range(_MAX_ATTEMPTS):
            current = (await self._catalog.get(shard)).collection
            try:
                results = await self._engine.search(
                    [replace(queries[at], collection=current) for at in positions]
                )
                return dict(zip(positions, results, strict=True))
            except Aborted:
                await self._catalog.read(shard)
        raise collection_changing(shard)


def _answer(task: "asyncio.Task[dict[int, Result]]") -> ShardAnswer:
    """Return the results of a shard, or the failure if it is unreachable.

    Raise all other failures.
    """
    if not task.done():
        return Unavailable("SHARD_TIMEOUT", "The shard did not answer in time.")
    error = task.exception()
    if isinstance(error, Unavailable | DeadlineExceeded):
        return error
    if error:
        raise error
    return task.result()


def _at(answer: ShardAnswer, position: int) -> Result | Failure:
    return answer if isinstance(answer, Failure) else answer[position]
