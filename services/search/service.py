"""Collections and their documents: what the service does, whatever engine does it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.errors import Aborted, AlreadyExists, FailedPrecondition, Failure, NotFound
from services.search import filters, grouping, ranking
from services.search.engines.aliases import Aliases
from services.search.engines.catalog import Record, Records
from services.search.engines.connection import Client, Server, asking, ping, probe, retried
from services.search.engines.documents import Documents
from services.search.engines.engine import Engine, Size
from services.search.engines.query_engine.engine import QueryEngine
from services.search.engines.shards import ShardedDocuments, ShardedSets
from services.search.engines.vector_sets.engine import VectorSets
from services.search.filters import Condition
from services.search.recall_sampling import Sampling
from services.search.types import Collection, Document, Query, Result, check_vector
from services.search.updates import Changes
from services.search.validation import PAGE_LIMIT, check_ids, page_size

log = logging.getLogger(__name__)

SAMPLE = 10
# Collections of ours, for a while.
TEMPORARY = ".tune-"
_TEMPORARY_SECONDS = 3600
_EXPORTED_AT_ONCE = 200
UPKEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Described:
    """A collection with its numbers; ``memory`` is bytes, ``max_norm`` 0 for any length."""

    collection: Collection
    count: int
    memory: int
    max_norm: float
    warnings: list[str]
    ready: bool
    aliases: list[str]


class Collections:
    """Creates, fills and searches collections on one Redis."""

    def __init__(self, redis: Client, prefix: str, recall_sample: float = 0.0) -> None:
        self._redis = redis
        self._records = Records(redis, prefix)
        documents = Documents(redis, self._records)
        self._documents = ShardedDocuments(documents, self._records)
        self._vector_sets = VectorSets(redis, self._records, documents)
        self._engines: dict[str, Engine] = {
            "vector_sets": self._vector_sets,
            "shards": ShardedSets(self._vector_sets, self._records, self._documents),
            "query_engine": QueryEngine(redis, self._records, documents),
        }
        self._aliases = Aliases(redis, self._records, prefix)
        self.changes = Changes(self._records, self._documents, self._engine)
        self._sampling = Sampling(recall_sample, self._search)
        self._server: Server | None = None

    async def ready(self) -> bool:
        """Say whether Redis answers and can do what we need; probes it again after a silence."""
        try:
            async with asking():
                await ping(self._redis)
            await self.server()
        except Failure:
            self._server = None
            raise
        return True

    async def server(self) -> Server:
        """Return what the server is. Raises FailedPrecondition if it has no vectors."""
        if self._server is None:
            server = await probe(self._redis)
            server.require_vectors()
            self._vector_sets.search_in_background(server.searches_in_background)
            for warning in server.warnings:
                log.warning(warning)
            self._server = server
        return self._server

    async def create(self, collection: Collection) -> Described:
        """Create a collection. Raises AlreadyExists."""
        server = await self.server()
        engine = collection.engine or _default_engine(collection, server)
        collection = collection.with_defaults(engine)
        collection.check()
        server.require(engine)
        record = await self._records.create(collection)
        try:
            await self._engine(collection).prepare(record)
        except Failure:
            await self._engine(collection).dismantle(record)
            await self._records.delete(record)
            raise
        return await self._describe(record)

    async def ensure(self, collection: Collection) -> Collection:
        """Create a collection unless it is there just so; return it. Raises AlreadyExists."""
        try:
            return (await self.create(collection)).collection
        except AlreadyExists:
            there = await self.collection(collection.name)
            if there != collection.with_defaults(there.engine):
                raise
            return there

    async def export(self, name: str) -> AsyncIterator[list[Document]]:
        """Return the documents of a collection in the order of their ids, some at a time."""
        token = ""
        while True:
            page, token = await self.documents(name, None, _EXPORTED_AT_ONCE, token)
            if page:
                yield page
            if not token:
                return

    async def sample(self, name: str, count: int, seed: int) -> list[str]:
        """Return ids of documents chosen at random, all if there are no more."""
        return await self._documents.sample(await self._records.read(name), count, seed)

    async def size(self, name: str) -> Size:
        """Return what the index of a collection takes, its documents left out."""
        record = await self._records.read(name)
        return await self._engine(record.collection).size(record)

    @retried
    async def collection(self, name: str, *, fresh: bool = True) -> Collection:
        """Return a collection, or what is remembered of it if that will do. Raises NotFound."""
        record = await (self._records.read(name) if fresh else self._records.get(name))
        return record.collection

    @retried
    async def describe(self, name: str) -> Described:
        """Return a collection with its numbers. Raises NotFound."""
        return await self._describe(await self._records.read(name))

    @retried
    async def page(self, size: int, token: str) -> tuple[list[Described], str]:
        """Return a page of collections in the order of their names, and the next page's token."""
        size = page_size(size)
        names = await self._records.names(token, size + 1)
        found = []
        for name in names[:size]:
            if name.startswith(TEMPORARY):
                continue
            try:
                found.append(await self.describe(name))
            except NotFound:  # deleted since
                continue
        return found, names[size - 1] if len(names) > size else ""

    async def drop(self, name: str) -> int:
        """Delete a collection and its aliases; return how many documents it had. Raises NotFound.

        Raises:
            FailedPrecondition: the name is an alias.
        """
        while True:
            record = await self._records.read(name)
            if record.collection.name != name:
                raise FailedPrecondition(
                    "IS_AN_ALIAS",
                    "This is an alias: delete the collection by its own name, or only the alias.",
                    field="name",
                    collection=record.collection.name,
                )
            count = await self._documents.count(record)
            await self._engine(record.collection).dismantle(record)
            if await self._records.delete(record):
                for alias in (await self._aliases.by_collection()).get(name, []):
                    await self._aliases.delete(alias, of=name)
                return count

    async def assign_alias(self, alias: str, name: str) -> str:
        """Let an alias call a collection; return what it called before, if anything.

        Raises:
            NotFound: there is no such collection.
            AlreadyExists: a collection has the alias's name.
        """
        return await self._aliases.assign(alias, await self._records.read(name))

    async def delete_alias(self, alias: str) -> str:
        """Delete an alias; return what it called. Raises NotFound."""
        return await self._aliases.delete(alias)

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write checked documents, all or nothing; return for each whether it is new.

        Raises:
            Aborted: the collection has become one that they were not checked for.
        """
        await self.server()
        while True:
            try:
                return await self._engine(collection).upsert(collection, documents)
            except Aborted:
                known, collection = collection, await self.collection(collection.name)
                if collection == known or not collection.holds_all_of(known):
                    raise
                for document in documents:
                    check_vector(document.vector, collection, "documents.vector")

    @retried
    async def get(self, name: str, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id; None for what is not there."""
        check_ids(ids)
        return await self._documents.get(await self._records.read(name), ids)

    @retried
    async def documents(
        self, name: str, condition: Condition | None, size: int, token: str
    ) -> tuple[list[Document], str]:
        """Return a page of documents in the order of their ids, and the next page's token."""
        size, record = page_size(size), await self._records.read(name)
        if condition:
            filters.check(condition, record.collection.fields, "filter")
            matching = await self._engine(record.collection).matching(name, condition)
            ids = [key for key in matching if key > token][: size + 1]
        else:
            ids = await self._documents.ids(record, token, size + 1)
        found = await self._documents.get(record, ids[:size]) if ids else []
        return [one for one in found if one], ids[size - 1] if len(ids) > size else ""

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        check_ids(ids)
        collection = await self.collection(name)
        return await self._engine(collection).delete(name, ids)

    async def delete_matching(
        self, name: str, condition: Condition, *, force: bool
    ) -> tuple[int, list[str]]:
        """Delete what meets a condition; without ``force`` only count it and name some."""
        collection = await self.collection(name)
        filters.check(condition, collection.fields, "filter")
        engine = self._engine(collection)
        ids = await engine.matching(name, condition)
        if not force:
            return len(ids), ids[:SAMPLE]
        return await engine.delete(name, ids), []

    @retried
    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer checked queries."""
        ranked = iter(await self._rank([query for query in queries if not query.group_by]))
        results = [
            await grouping.grouped(query, self._rank) if query.group_by else next(ranked)
            for query in queries
        ]
        self._sampling.take(queries, results)
        return results

    async def _rank(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries; a hybrid one is asked as two, and the rankings are joined."""
        if not queries:
            return []
        plain: list[Query] = []
        for query in queries:
            plain += ranking.halves(query) if query.fusion else (query,)
        found = iter(await self._search(plain))
        results = [
            ranking.join(query, next(found), next(found)) if query.fusion else next(found)
            for query in queries
        ]
        pairs = zip(queries, results, strict=True)
        await asyncio.gather(*(self._read(*pair) for pair in pairs if ranking.reads(pair[0])))
        return results

    async def _read(self, query: Query, result: Result) -> None:
        """Read what a hybrid query asks for of its page, not of all hits that were joined."""
        record = await self._records.get(query.collection.name)
        ids = [hit.id for hit in result.hits]
        ranking.fill(query, result, await self._documents.get(record, ids) if ids else [])

    async def _search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in one trip for each engine that they need."""
        await self.server()
        results: dict[int, Result] = {}
        for engine in self._engines.values():
            mine = [at for at, one in enumerate(queries) if self._engine(one.collection) is engine]
            if mine:
                found = await engine.search([queries[at] for at in mine])
                results |= zip(mine, found, strict=True)
        return [results[at] for at in range(len(queries))]

    async def keep_up(self) -> None:
        """Do now and then what waits to be done, until cancelled."""
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            try:
                await self._maintain()
            except Failure as failure:
                log.debug("upkeep waits", extra={"reason": failure.reason})
            except Exception:
                log.exception("upkeep failed")

    async def _maintain(self) -> None:
        await self._records.remove_dropped()
        after = ""
        while names := await self._records.names(after, PAGE_LIMIT):
            after = names[-1]
            for name in names:
                try:
                    record = await self._records.read(name)
                    if name.startswith(TEMPORARY) and record.age > _TEMPORARY_SECONDS:
                        await self._records.delete(record)
                        continue
                    await self.changes.settle(record)
                    await self._engine(record.collection).maintain(name)
                except (NotFound, Aborted):  # others are at it
                    continue

    async def _describe(self, record: Record) -> Described:
        size: Size = await self._engine(record.collection).size(record)
        memory = size.memory + await self._documents.memory(record)
        count = await self._documents.count(record)
        warnings = [*(await self.server()).warnings, *size.warnings]
        aliases = (await self._aliases.by_collection()).get(record.collection.name, [])
        return Described(
            record.collection, count, memory, size.max_norm, warnings, size.ready, aliases
        )

    def _engine(self, collection: Collection) -> Engine:
        return self._engines["shards" if collection.is_sharded else collection.engine]


def _default_engine(collection: Collection, server: Server) -> str:
    """Return the Query Engine where there is one, unless only vector sets can do what is asked."""
    return (
        "query_engine"
        if server.query_engine
        and collection.quantization == "none"
        and not collection.reduced
        and not collection.is_sharded
        else "vector_sets"
    )
