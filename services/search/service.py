"""The operations on collections and their documents, the same for every engine."""

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from services.errors import Aborted, AlreadyExists, FailedPrecondition, Failure
from services.search.engines.aliases import AliasStore
from services.search.engines.catalog import Catalog
from services.search.engines.connection import Client, ping
from services.search.engines.cursors import CursorStore
from services.search.engines.documents import DocumentStore
from services.search.engines.engine import Engine, IndexStatus
from services.search.engines.query_engine.engine import QueryEngine
from services.search.engines.record import Record
from services.search.engines.redis_errors import redis_errors, retry_reads
from services.search.engines.server import Server, probe
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.engines.sharded_engine import ShardedEngine
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.filters import Condition, check_filter
from services.search.index_defaults import with_index_defaults
from services.search.listing import MAX_RESPONSE_BYTES, Listing, too_large
from services.search.maintenance import Maintenance
from services.search.query_runner import QueryRunner
from services.search.recall_sampling import RecallSampler
from services.search.types import Collection, CollectionInfo, Document, Query, Result
from services.search.updates import Updates
from services.search.validation import check_collection, check_ids, check_vector

log = logging.getLogger(__name__)

# Number of ids that a deletion without ``force`` returns.
_DELETION_SAMPLE = 10
_EXPORT_BATCH = 200


class SearchService:
    """Creates, fills and searches collections on one Redis."""

    def __init__(self, redis: Client, prefix: str, recall_sample: float = 0.0) -> None:
        self._redis = redis
        self._catalog = Catalog(redis, prefix)
        self._aliases = AliasStore(redis, prefix)
        documents = DocumentStore(redis, self._catalog)
        self._documents = ShardedDocumentStore(documents, self._catalog)
        self._vector_sets = VectorSetEngine(redis, self._catalog, documents)
        self._sharded = ShardedEngine(self._vector_sets, self._catalog, self._documents)
        self._query_engine = QueryEngine(redis, self._catalog, documents)
        self._listing = Listing(
            self._catalog,
            self._aliases,
            self._documents,
            CursorStore(redis, self._catalog),
            self._engine_of,
        )
        self._queries = QueryRunner(self._catalog, self._documents, self._engine_of)
        self._sampler = RecallSampler(recall_sample, self._queries.search_engines)
        self._server: Server | None = None
        self.updates = Updates(self._catalog, self._documents, self._engine_of)
        self.maintenance = Maintenance(self._catalog, self.updates, self._engine_of)

    async def ready(self) -> bool:
        """Return whether Redis answers and has an engine. Probe it again after an outage."""
        try:
            async with redis_errors():
                await ping(self._redis)
            await self.server()
        except Failure:
            self._server = None
            raise
        return True

    async def server(self) -> Server:
        """Return the server's capabilities. Raises FailedPrecondition if it has no engine."""
        if self._server is None:
            server = await probe(self._redis)
            server.require_vectors()
            self._vector_sets.allow_background_search(server.supports_background_search)
            for warning in server.warnings:
                log.warning(warning)
            self._server = server
        return self._server

    async def create(self, collection: Collection) -> CollectionInfo:
        """Create a collection. Raises AlreadyExists."""
        server = await self.server()
        engine_name = collection.engine or _default_engine(collection, server)
        collection = with_index_defaults(collection, engine_name)
        check_collection(collection)
        server.require(engine_name)
        record = await self._catalog.create(collection)
        engine = self._engine_of(collection)
        try:
            await engine.create(record)
        except Failure:
            await engine.drop(record)
            await self._catalog.delete(record)
            raise
        return await self._describe(record)

    async def ensure(self, collection: Collection) -> Collection:
        """Create a collection unless an identical one exists; return it. Raises AlreadyExists."""
        try:
            return (await self.create(collection)).collection
        except AlreadyExists:
            existing = await self.collection(collection.name)
            if existing != with_index_defaults(collection, existing.engine):
                raise
            return existing

    @retry_reads
    async def collection(self, name: str, *, cached: bool = False) -> Collection:
        """Return a collection, from the cache if allowed. Raises NotFound."""
        record = await (self._catalog.get(name) if cached else self._catalog.read(name))
        return record.collection

    @retry_reads
    async def describe(self, name: str) -> CollectionInfo:
        """Return a collection with its numbers. Raises NotFound."""
        return await self._describe(await self._catalog.read(name))

    @retry_reads
    async def list_collections(
        self, size: int, token: str, *, include_internal: bool = False, prefix: str = ""
    ) -> tuple[list[CollectionInfo], str]:
        """Return a page of collections in the order of their names, and the next page's token.

        All names begin with ``prefix``.
        """
        return await self._listing.collections(
            size, token, include_internal=include_internal, prefix=prefix
        )

    async def index_status(self, name: str) -> IndexStatus:
        """Return the state of a collection's index. Raises NotFound."""
        record = await self._catalog.read(name)
        return await self._engine_of(record.collection).status(record)

    async def drop(self, name: str) -> int:
        """Delete a collection and its aliases; return how many documents it had.

        Raises:
            NotFound: there is no such collection.
            FailedPrecondition: the name is an alias.
        """
        while True:
            record = await self._catalog.read(name)
            if record.collection.name != name:
                raise FailedPrecondition(
                    "IS_AN_ALIAS",
                    "The name is an alias; delete the collection by its own name, or the alias with"
                    " DeleteAlias.",
                    field="name",
                    collection=record.collection.name,
                )
            count = await self._documents.count(record)
            await self._engine_of(record.collection).drop(record)
            if await self._catalog.delete(record):
                for alias in (await self._aliases.by_collection()).get(name, []):
                    await self._aliases.delete(alias, only_of=name)
                return count

    async def assign_alias(self, alias: str, name: str) -> str:
        """Point an alias at a collection. Return its previous target, or an empty string.

        Raises:
            NotFound: there is no such collection.
            AlreadyExists: a collection has the alias's name.
        """
        return await self._aliases.assign(alias, await self._catalog.read(name))

    async def delete_alias(self, alias: str) -> str:
        """Delete an alias; return the name of its collection. Raises NotFound."""
        return await self._aliases.delete(alias)

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write all checked documents or none; return for each whether it is new.

        Raises:
            Aborted: the collection no longer accepts the documents.
        """
        await self.server()
        while True:
            try:
                return await self._engine_of(collection).upsert(collection, documents)
            except Aborted:
                previous, collection = collection, await self.collection(collection.name)
                if collection == previous or not collection.accepts_documents_of(previous):
                    raise
                for document in documents:
                    check_vector(document.vector, collection, "documents.vector")

    @retry_reads
    async def get(self, name: str, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id; None for each that does not exist.

        Raises:
            InvalidArgument: the documents do not fit into one response.
        """
        check_ids(ids)
        found = await self._listing.read(await self._catalog.read(name), ids, MAX_RESPONSE_BYTES)
        if len(found) < len(ids):
            raise too_large("ids")
        return found

    @retry_reads
    async def list_documents(
        self, name: str, condition: Condition | None, size: int, token: str
    ) -> tuple[list[Document], str]:
        """Return a page of documents in the order of their ids, and the next page's token."""
        return await self._listing.documents(await self._catalog.read(name), condition, size, token)

    async def export(self, name: str) -> AsyncIterator[list[Document]]:
        """Yield batches of all documents in the order of their ids."""
        token = ""
        while True:
            page, token = await self.list_documents(name, None, _EXPORT_BATCH, token)
            if page:
                yield page
            if not token:
                return

    async def sample_ids(self, name: str, count: int, seed: int) -> list[str]:
        """Return up to ``count`` random ids of documents."""
        return await self._documents.sample_ids(await self._catalog.read(name), count, seed)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        check_ids(ids)
        collection = await self.collection(name)
        return await self._engine_of(collection).delete(name, ids)

    async def delete_matching(
        self, name: str, condition: Condition, *, force: bool
    ) -> tuple[int, list[str]]:
        """Delete the documents that match a condition; return their number.

        Without ``force`` nothing is deleted, and the ids of some documents are returned too.
        """
        collection = await self.collection(name)
        check_filter(condition, collection.fields, "filter")
        engine = self._engine_of(collection)
        ids = await engine.matching_ids(name, condition)
        if not force:
            return len(ids), ids[:_DELETION_SAMPLE]
        return await engine.delete(name, ids), []

    @retry_reads
    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer checked queries."""
        await self.server()
        results = await self._queries.run(queries)
        self._sampler.sample(queries, results)
        return results

    async def _describe(self, record: Record) -> CollectionInfo:
        [info] = await self._listing.describe([record])
        warnings = [*(await self.server()).warnings, *info.warnings]
        return replace(info, warnings=warnings)

    def _engine_of(self, collection: Collection) -> Engine:
        if collection.is_sharded:
            return self._sharded
        return self._query_engine if collection.engine == "query_engine" else self._vector_sets


def _default_engine(collection: Collection, server: Server) -> str:
    """Return the Query Engine if the server has it and the collection does not need vector sets."""
    needs_vector_sets = (
        collection.quantization != "none"
        or collection.reduced_dimensions > 0
        or collection.is_sharded
    )
    return "query_engine" if server.query_engine and not needs_vector_sets else "vector_sets"
