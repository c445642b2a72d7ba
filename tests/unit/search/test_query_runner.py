from collections.abc import Sequence
from typing import Any

import pytest

from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.query_runner import QueryRunner
from services.search.types import Collection, Query, Result
from tests.fakes.search import ListSearch, collection, document, vector
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(fields={"t": "tag"})
OTHER = collection(name="other", engine="query_engine")
DOCUMENTS = [
    document("a", 1, 0, fields={"t": "x"}, text="dog"),
    document("b", 1, 0.1, fields={"t": "x"}, text="cat cat"),
    document("c", 0, 1, fields={"t": "y"}, text="cat", payload=b"p"),
]


class Engines:
    """Two engines that search lists and count their calls."""

    def __init__(self) -> None:
        self.searches = {
            "vector_sets": ListSearch(DOCUMENTS),
            "query_engine": ListSearch([document("z", 1, 0)]),
        }
        self.calls: list[tuple[str, int]] = []
        self._engines = {name: _Engine(self, name) for name in self.searches}

    def engine_of(self, one: Collection) -> Any:
        return self._engines[one.engine]


class _Engine:
    def __init__(self, engines: Engines, name: str) -> None:
        self._engines = engines
        self._name = name

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        self._engines.calls.append((self._name, len(queries)))
        return await self._engines.searches[self._name].search(queries)


@pytest.fixture
def engines() -> Engines:
    return Engines()


@pytest.fixture
async def runner(
    redis: VectorRedis, catalog: Catalog, documents: DocumentStore, engines: Engines
) -> QueryRunner:
    await catalog.create(COLLECTION)
    await VectorSetEngine(redis, catalog, documents).upsert(COLLECTION, DOCUMENTS)
    return QueryRunner(catalog, ShardedDocumentStore(documents, catalog), engines.engine_of)


def hybrid(**options: Any) -> Query:
    settings: dict[str, Any] = {"vector": vector(1, 0), "text": "cat", "fusion": "linear"} | options
    return Query(COLLECTION, **settings)


async def test_every_engine_is_searched_once(runner: QueryRunner, engines: Engines) -> None:
    queries = [
        Query(COLLECTION, vector=vector(1, 0), limit=1),
        Query(OTHER, vector=vector(1, 0)),
        Query(COLLECTION, vector=vector(0, 1), limit=1),
    ]
    results = await runner.run(queries)
    assert [[hit.id for hit in result.hits] for result in results] == [["a"], ["z"], ["c"]]
    assert engines.calls == [("vector_sets", 2), ("query_engine", 1)]
    assert await runner.run([]) == []


async def test_a_hybrid_query_becomes_two_and_its_page_is_read(
    runner: QueryRunner, engines: Engines
) -> None:
    query = hybrid(limit=2, return_text=True, vector_weight=0.5)
    plain, fused = await runner.run([Query(COLLECTION, vector=vector(1, 0), limit=1), query])
    assert [hit.id for hit in plain.hits] == ["a"]
    assert [(hit.id, hit.text, hit.fields) for hit in fused.hits] == [
        *(("b", "cat cat", {"t": "x"}), ("a", "dog", {"t": "x"}))
    ]
    assert engines.calls == [("vector_sets", 3)]
    _, by_vector, by_text = engines.searches["vector_sets"].queries
    assert (by_vector.text, by_text.vector) == ("", None)


async def test_documents_are_not_read_if_nothing_of_them_is_returned(
    runner: QueryRunner, redis: VectorRedis
) -> None:
    redis.failure = ConnectionError()
    [fused] = await runner.run([hybrid(return_fields=frozenset())])
    assert {hit.id for hit in fused.hits} == {"a", "b", "c"}


async def test_grouped_and_other_queries_keep_their_order(runner: QueryRunner) -> None:
    queries = [
        Query(COLLECTION, vector=vector(1, 0), group_by="t"),
        Query(COLLECTION, vector=vector(0, 1), limit=1),
        hybrid(group_by="t"),
    ]
    grouped, plain, hybrid_groups = await runner.run(queries)
    assert [(hit.group, hit.id) for hit in grouped.hits] == [("x", "a"), ("y", "c")]
    assert [hit.id for hit in plain.hits] == ["c"]
    assert {hit.group for hit in hybrid_groups.hits} == {"x", "y"}


async def test_queries_that_read_many_hits_are_sent_one_after_another(
    runner: QueryRunner, engines: Engines
) -> None:
    queries = [Query(COLLECTION, vector=vector(1, 0), limit=limit) for limit in (4_000, 6_000, 1)]
    results = await runner.run(queries)
    assert engines.calls == [("vector_sets", 2), ("vector_sets", 1)]
    assert [len(result.hits) for result in results] == [3, 3, 1]
