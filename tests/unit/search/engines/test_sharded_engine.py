import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services import deadlines
from services.errors import Aborted, FailedPrecondition, NotFound, Unavailable
from services.search.engines import sharded_engine
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.engine import FieldsWrite
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.engines.sharded_engine import ShardedEngine
from services.search.engines.shards import shard_names, shard_of
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.filters import NumberCondition
from services.search.types import Collection, Document, Query, Result
from tests.fakes.search import collection, document, vector
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(shards=3, fields={"n": "number"}, metric="l2")
DOCUMENTS = [document(f"d{at}", at, 0, fields={"n": float(at)}) for at in range(12)]


class Shards(VectorSetEngine):
    """Vector sets, some of whose shards are silent, unreachable or changing."""

    silent: str = ""
    away: str = ""
    changes: int = 0

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        name = queries[0].collection.name
        if name == self.silent:
            await asyncio.Event().wait()
        if name == self.away:
            raise Unavailable("REDIS_UNAVAILABLE", "")
        if self.changes:
            self.changes -= 1
            raise Aborted("COLLECTION_CHANGING", "")
        return await super().search(queries)


@pytest.fixture
def shards(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> Shards:
    return Shards(redis, catalog, documents)


@pytest.fixture
async def engine(shards: Shards, catalog: Catalog, documents: DocumentStore) -> ShardedEngine:
    engine = ShardedEngine(shards, catalog, ShardedDocumentStore(documents, catalog))
    await engine.create(await catalog.create(COLLECTION))
    assert await engine.upsert(COLLECTION, DOCUMENTS) == [True] * 12
    return engine


def nearest(at: float, limit: int = 3, collection: Collection = COLLECTION) -> Query:
    return Query(collection, vector=vector(at, 0), limit=limit)


async def ids(engine: ShardedEngine, query: Query) -> list[str]:
    [result] = await engine.search([query])
    return [hit.id for hit in result.hits]


async def test_a_search_merges_the_hits_of_all_shards(engine: ShardedEngine) -> None:
    assert await ids(engine, nearest(3.1)) == ["d3", "d4", "d2"]
    by_id = Query(COLLECTION, document_id="d3", limit=2)
    assert await ids(engine, by_id) == ["d2", "d4"]
    with pytest.raises(NotFound):
        await engine.search([Query(COLLECTION, document_id="none")])


async def test_the_document_searched_by_takes_no_place_of_its_neighbours(
    engine: ShardedEngine,
) -> None:
    """Two neighbours in one shard: the shard must return both of them and the document itself."""
    shard = shard_of(COLLECTION, "d0")
    near = [key for at in range(100, 200) if shard_of(COLLECTION, key := f"n{at}") == shard][:2]
    await engine.upsert(COLLECTION, [document(key, 0, 0.01) for key in near])
    assert await ids(engine, Query(COLLECTION, document_id="d0", limit=2)) == near


async def test_several_collections_are_searched_at_once(
    engine: ShardedEngine, catalog: Catalog
) -> None:
    other = collection(name="other", shards=2, metric="l2")
    await engine.create(await catalog.create(other))
    await engine.upsert(other, [document("x", 1, 1)])
    queries = [nearest(0.1, 1), nearest(0.1, 1, other), nearest(9.1, 1)]
    results = await engine.search(queries)
    assert [[hit.id for hit in result.hits] for result in results] == [["d0"], ["x"], ["d9"]]


async def test_an_unavailable_shard_makes_a_partial_result(
    engine: ShardedEngine, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(seconds: float) -> None:
        """Retry at once."""

    monkeypatch.setattr(asyncio, "sleep", sleep)
    shards.away = shard_of(COLLECTION, "d3")
    [result] = await engine.search([nearest(3.1, 12)])
    assert result.partial_reason == "1 of 3 shards did not answer"
    assert "d3" not in [hit.id for hit in result.hits]
    assert result.hits


async def test_a_silent_shard_makes_a_partial_result(
    engine: ShardedEngine, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_engine, "REDIS_TIMEOUT", 0.02)
    shards.silent = shard_of(COLLECTION, "d3")
    [result] = await engine.search([nearest(3.1)])
    assert result.partial_reason == "1 of 3 shards did not answer"


async def test_a_search_waits_for_shards_for_half_of_the_time_left(
    engine: ShardedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts, wait = [], asyncio.wait

    async def record_timeout(tasks: Any, **options: Any) -> Any:
        timeouts.append(options["timeout"])
        return await wait(tasks)

    monkeypatch.setattr(asyncio, "wait", record_timeout)
    with deadlines.limit(10.0):
        await engine.search([nearest(3.1)])
    assert 0 < timeouts[0] <= 5.0


async def test_a_shard_that_changes_is_asked_again(engine: ShardedEngine, shards: Shards) -> None:
    shards.changes = 2
    assert await ids(engine, nearest(3.1)) == ["d3", "d4", "d2"]
    shards.changes = 1000
    with pytest.raises(Aborted):
        await engine.search([nearest(3.1)])


async def test_documents_match_and_are_deleted_wherever_they_lie(engine: ShardedEngine) -> None:
    condition = NumberCondition("n", "lt", (4.0,))
    assert await engine.matching_ids("c", condition) == ["d0", "d1", "d2", "d3"]
    assert await engine.delete("c", ["d0", "d1", "none"]) == 2
    assert await engine.matching_ids("c", condition) == ["d2", "d3"]


async def test_a_stale_collection_is_not_written_to(engine: ShardedEngine) -> None:
    with pytest.raises(Aborted):
        await engine.upsert(collection(shards=3), DOCUMENTS)


async def test_fields_are_written_in_every_shard(
    engine: ShardedEngine, catalog: Catalog, documents: DocumentStore
) -> None:
    record = await catalog.get("c")
    writes = [FieldsWrite(one, {"n": 99.0}) for one in DOCUMENTS[:5]]
    assert await engine.write_fields(record, writes) == "updated"
    assert len(await engine.matching_ids("c", NumberCondition("n", "eq", (99.0,)))) == 5
    assert await engine.write_fields(record, writes) == "changed"


async def test_fields_are_added_to_every_shard(engine: ShardedEngine, catalog: Catalog) -> None:
    record = await catalog.get("c")
    target = collection(shards=3, fields={"n": "number", "t": "tag"}, metric="l2")
    updated = await catalog.update(record, target=target)
    assert updated
    await engine.add_fields(updated)
    for name in shard_names(COLLECTION):
        shard = await catalog.read(name)
        assert (shard.collection.fields, shard.target) == (target.fields, None)


async def test_the_status_adds_the_shards_up(engine: ShardedEngine, catalog: Catalog) -> None:
    record = await catalog.get("c")
    status = await engine.status(record)
    assert status.memory == 12 * 100
    shards = [await catalog.read(name) for name in shard_names(COLLECTION)]
    assert status.max_norm == min(shard.index.max_norm for shard in shards)
    assert await engine.indexed_count(record) == 12


async def test_shards_are_maintained_and_dropped_and_never_reindexed(
    engine: ShardedEngine, catalog: Catalog
) -> None:
    await engine.maintain("c")
    with pytest.raises(FailedPrecondition) as caught:
        await engine.reindex("c", COLLECTION)
    assert caught.value.reason == "SHARDED"
    await engine.drop(await catalog.get("c"))
    for name in shard_names(COLLECTION):
        with pytest.raises(NotFound):
            await catalog.read(name)
    await engine.drop(await catalog.get("c"))


async def test_only_existing_documents_are_read(
    engine: ShardedEngine, catalog: Catalog, documents: DocumentStore
) -> None:
    store = ShardedDocumentStore(documents, catalog)
    found: list[Document | None] = await store.get(await catalog.get("c"), ["d7", "none", "d1"])
    assert [one and one.id for one in found] == ["d7", None, "d1"]
