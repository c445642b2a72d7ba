"""Runs queries: one search for each engine, then hybrid fusion and grouping."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from services.search import ranking
from services.search.engines.catalog import Catalog
from services.search.engines.engine import Engine
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.grouping import search_groups
from services.search.query_validation import requested_hits
from services.search.types import Collection, Query, Result

# Queries that read up to this many hits are sent to Redis together.
_HITS_TOGETHER = 10_000


class QueryRunner:
    """Answers checked queries; ``engine_of`` returns the engine of a collection."""

    def __init__(
        self,
        catalog: Catalog,
        documents: ShardedDocumentStore,
        engine_of: Callable[[Collection], Engine],
    ) -> None:
        self._catalog = catalog
        self._documents = documents
        self._engine_of = engine_of

    async def run(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries, in order."""
        ranked: list[Result] = []
        for part in _parts([query for query in queries if not query.group_by]):
            ranked += await self._rank(part)
        ungrouped = iter(ranked)
        return [
            await search_groups(query, self._rank) if query.group_by else next(ungrouped)
            for query in queries
        ]

    async def search_engines(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries by vector or by text, with one search for each engine that they need."""
        positions: dict[Engine, list[int]] = {}
        for at, query in enumerate(queries):
            positions.setdefault(self._engine_of(query.collection), []).append(at)
        results: dict[int, Result] = {}
        for engine, indices in positions.items():
            found = await engine.search([queries[at] for at in indices])
            results |= zip(indices, found, strict=True)
        return [results[at] for at in range(len(queries))]

    async def _rank(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries; a hybrid one is split into two, whose rankings are fused."""
        if not queries:
            return []
        plain: list[Query] = []
        for query in queries:
            plain += ranking.split_hybrid(query) if query.fusion else (query,)
        found = iter(await self.search_engines(plain))
        results = [
            ranking.fuse(query, next(found), next(found)) if query.fusion else next(found)
            for query in queries
        ]
        await asyncio.gather(
            *(
                self._add_documents(query, result)
                for query, result in zip(queries, results, strict=True)
                if ranking.needs_documents(query)
            )
        )
        return results

    async def _add_documents(self, query: Query, result: Result) -> None:
        """Read the documents of a hybrid query's page."""
        record = await self._catalog.get(query.collection.name)
        ids = [hit.id for hit in result.hits]
        documents = await self._documents.get(record, ids) if ids else []
        ranking.add_documents(query, result, documents)


def _parts(queries: Sequence[Query]) -> Iterator[list[Query]]:
    """Yield the queries in order; queries that read few hits are grouped."""
    part: list[Query] = []
    hits = 0
    for query in queries:
        if part and hits + requested_hits(query) > _HITS_TOGETHER:
            yield part
            part, hits = [], 0
        part.append(query)
        hits += requested_hits(query)
    if part:
        yield part
