"""Collections and their documents: what the service does, whatever engine does it."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from services.errors import Failure, InvalidArgument
from services.search import filters
from services.search.engines.connection import (
    Client,
    Server,
    asking,
    probe,
    require_vector_sets,
)
from services.search.engines.records import Record, Records
from services.search.engines.vector_search import VectorSearch
from services.search.engines.vector_sets import VectorSets
from services.search.filters import Condition
from services.search.schema import (
    DOCUMENTS_LIMIT,
    QUERIES_LIMIT,
    Collection,
    Document,
    Query,
    Result,
    check_fields,
    check_id,
)

log = logging.getLogger(__name__)

PAGE_LIMIT = 1000
SAMPLE = 10
SWEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Described:
    """A collection with its numbers; sizes are bytes."""

    collection: Collection
    count: int
    memory: int
    max_norm: float
    warnings: list[str]


class Collections:
    """Creates, fills and searches collections on one Redis."""

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._records = Records(redis, prefix)
        self._sets = VectorSets(redis, self._records)
        self._searches = VectorSearch(redis, self._records, self._sets)
        self._server: Server | None = None

    async def ready(self) -> bool:
        """Say whether Redis answers and can do what we need; probes it again after a silence."""
        try:
            async with asking():
                await self._redis.ping()
            await self.server()
        except Failure:
            self._server = None
            raise
        return True

    async def server(self) -> Server:
        """Return what the server is. Raises FailedPrecondition if it has no vector sets."""
        if self._server is None:
            server = await probe(self._redis)
            require_vector_sets(server)
            self._searches.background = server.searches_in_background
            for warning in server.warnings:
                log.warning(warning)
            self._server = server
        return self._server

    async def create(self, collection: Collection) -> Described:
        """Create a collection. Raises AlreadyExists."""
        collection.check()
        await self.server()
        return await self._describe(await self._records.create(collection))

    async def collection(self, name: str) -> Collection:
        """Return a collection. Raises NotFound."""
        return (await self._records.read(name)).collection

    async def known(self, name: str) -> Collection:
        """Return a collection as it is known here; ``search`` notices if that is out of date."""
        return (await self._records.get(name)).collection

    async def describe(self, name: str) -> Described:
        """Return a collection with its numbers. Raises NotFound."""
        return await self._describe(await self._records.read(name))

    async def page(self, size: int, token: str) -> tuple[list[Described], str]:
        """Return a page of collections in the order of their names, and the next page's token."""
        size = _page_size(size)
        names = await self._records.names(token, size + 1)
        found = []
        for name in names[:size]:
            with contextlib.suppress(Failure):  # deleted since
                found.append(await self.describe(name))
        return found, names[size - 1] if len(names) > size else ""

    async def drop(self, name: str) -> int:
        """Delete a collection; return how many documents it had. Raises NotFound."""
        record = await self._records.read(name)
        count = await self._sets.count(record)
        await self._records.delete(record)
        return count

    async def upsert(self, name: str, documents: Sequence[Document]) -> tuple[int, int]:
        """Write checked documents, all or nothing; return how many were new and replaced."""
        return await self._sets.upsert(name, documents)

    async def get(self, name: str, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id; None for what is not there."""
        if not ids:
            raise _empty("ids")
        return await self._sets.get(await self._records.read(name), ids)

    async def documents(
        self, name: str, condition: Condition | None, size: int, token: str
    ) -> tuple[list[Document], str]:
        """Return a page of documents in the order of their ids, and the next page's token."""
        size, record = _page_size(size), await self._records.read(name)
        if condition:
            filters.check(condition, record.collection.fields, "filter")
            matching = await self._sets.matching(record, condition)
            ids = [key for key in matching if key > token][: size + 1]
        else:
            ids = await self._sets.ids(record, token, size + 1)
        found = await self._sets.get(record, ids[:size]) if ids else []
        return [one for one in found if one], ids[size - 1] if len(ids) > size else ""

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        if not ids:
            raise _empty("ids")
        await self._records.read(name)
        return await self._sets.delete(name, ids)

    async def delete_matching(
        self, name: str, condition: Condition, *, force: bool
    ) -> tuple[int, list[str]]:
        """Delete what meets a condition; without ``force`` only count it and name some."""
        record = await self._records.read(name)
        filters.check(condition, record.collection.fields, "filter")
        ids = await self._sets.matching(record, condition)
        if not force:
            return len(ids), ids[:SAMPLE]
        return await self._sets.delete(name, ids), []

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer checked queries in one trip."""
        await self.server()
        return await self._searches.search(queries)

    async def sweep(self) -> None:
        """Delete expired documents now and then, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with contextlib.suppress(Failure):
                after = ""
                while names := await self._records.names(after, PAGE_LIMIT):
                    after = names[-1]
                    for name in names:
                        await self._sets.sweep(name)

    async def _describe(self, record: Record) -> Described:
        collection, lift = record.collection, record.index.lift(record.collection.metric)
        return Described(
            collection,
            await self._sets.count(record),
            await self._sets.memory(record),
            0.0 if collection.metric == "cosine" else lift.max_norm,
            (await self.server()).warnings,
        )


def check_documents(documents: Sequence[Document], collection: Collection) -> None:
    """Raise InvalidArgument for a batch that cannot be written as a whole."""
    if not documents:
        raise _empty("documents")
    if len(documents) > DOCUMENTS_LIMIT:
        raise InvalidArgument(
            "TOO_MANY_DOCUMENTS",
            f"A batch has at most {DOCUMENTS_LIMIT} documents.",
            field="documents",
            limit=DOCUMENTS_LIMIT,
        )
    seen: set[str] = set()
    for number, document in enumerate(documents):
        place = f"documents[{number}]"
        check_id(document.id, f"{place}.id")
        if document.id in seen:
            raise InvalidArgument(
                "DUPLICATE_ID", "The batch has this id twice.", field=f"{place}.id", id=document.id
            )
        seen.add(document.id)
        check_fields(document.fields, collection, place)
        if not 0 <= document.ttl < 2**31:
            raise InvalidArgument(
                "BAD_TTL", "ttl is a number of seconds, 0 or more.", field=f"{place}.ttl"
            )


def check_count(queries: Sequence[object]) -> None:
    """Raise InvalidArgument for a request with no queries, or too many."""
    if not queries:
        raise _empty("queries")
    if len(queries) > QUERIES_LIMIT:
        raise InvalidArgument(
            "TOO_MANY_QUERIES",
            f"A request has at most {QUERIES_LIMIT} queries.",
            field="queries",
            limit=QUERIES_LIMIT,
        )


def _page_size(size: int) -> int:
    if size < 0:
        raise InvalidArgument("BAD_PAGE_SIZE", "page_size is negative.", field="page_size")
    return min(size or 100, PAGE_LIMIT)


def _empty(place: str) -> InvalidArgument:
    return InvalidArgument("EMPTY_BATCH", f"{place} is empty.", field=place)
