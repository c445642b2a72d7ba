"""Answers queries with the Query Engine in one round trip.

A query whose filter the Query Engine cannot express exactly (it has boxes for circles) is sent
again with more candidates until enough of them match the filter.
"""

import time
from collections.abc import Sequence

from services.search.engines.catalog import Catalog, collection_changing
from services.search.engines.connection import Client
from services.search.engines.documents import DocumentStore, query_document_not_found
from services.search.engines.query_engine.command import MAX_RESULTS, SearchCommand
from services.search.engines.record import Record
from services.search.engines.redis_errors import redis_errors
from services.search.filters import Condition
from services.search.types import Query, Result

_MAX_ATTEMPTS = 20


class QueryEngineSearch:
    """Answers queries."""

    def __init__(self, redis: Client, catalog: Catalog, documents: DocumentStore) -> None:
        self._redis = redis
        self._catalog = catalog
        self._documents = documents

    async def matching_ids(self, name: str, condition: Condition | None) -> list[str]:
        """Return the sorted ids of all documents that match a condition."""

        async def find(record: Record) -> list[str] | None:
            query = Query(
                record.collection,
                condition=condition,
                limit=MAX_RESULTS,
                return_fields=frozenset(),
            )
            command = SearchCommand(query, record, self._catalog.keys(record))
            if not await self._send([command]):
                return None
            return sorted(document_id for document_id, _ in command.plan.candidates)

        return await self._catalog.attempt(name, find)

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in order. Raises NotFound for a ``document_id`` that does not exist."""
        started = time.perf_counter()
        for _ in range(_MAX_ATTEMPTS):
            commands = [await self._command(query) for query in queries]
            if await self._execute(commands):
                took = time.perf_counter() - started
                return [command.plan.result(took) for command in commands]
            for name in {query.collection.name for query in queries}:
                await self._catalog.read(name)
        raise collection_changing(queries[0].collection.name)

    async def _command(self, query: Query) -> SearchCommand:
        record = await self._catalog.get(query.collection.name)
        if record.collection != query.collection:
            raise collection_changing(query.collection.name)
        return SearchCommand(query, record, self._catalog.keys(record))

    async def _execute(self, commands: Sequence[SearchCommand]) -> bool:
        """Find the hits; return False if a collection has changed."""
        await self._read_query_vectors(commands)
        pending = commands
        while pending:
            if not await self._send(pending):
                return False
            pending = [command for command in pending if command.may_lack_hits()]
            for command in pending:
                command.widen()
        return True

    async def _read_query_vectors(self, commands: Sequence[SearchCommand]) -> None:
        """Read the vectors of the documents that queries search by."""
        for command in commands:
            document_id = command.plan.query.document_id
            if not document_id:
                continue
            [document] = await self._documents.get(command.plan.record, [document_id])
            if document is None:
                raise query_document_not_found(document_id)
            command.set_vector(document.vector)

    async def _send(self, commands: Sequence[SearchCommand]) -> bool:
        """Send all commands and read their replies; return False if a collection has changed."""
        records = {command.plan.record.collection.name: command.plan.record for command in commands}
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command.arguments())
            # The versions come last, because an index that was just dropped gives a wrong reply.
            for record in records.values():
                pipe.hget(self._catalog.keys(record).record, "version")
            replies = await pipe.execute(raise_on_error=False)
        found, versions = replies[: len(commands)], replies[len(commands) :]
        if versions != [b"%d" % record.version for record in records.values()]:
            return False
        for reply in found:
            if isinstance(reply, Exception):
                async with redis_errors():
                    raise reply
        for command, reply in zip(commands, found, strict=True):
            command.read(reply)
        return True
