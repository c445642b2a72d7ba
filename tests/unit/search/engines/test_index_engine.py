import time

import pytest

from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.record import Index
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.types import Query
from tests.fakes.search import collection, document, vector
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection()


@pytest.fixture
async def engine(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> VectorSetEngine:
    engine = VectorSetEngine(redis, catalog, documents)
    await catalog.create(COLLECTION)
    await engine.upsert(COLLECTION, [document("a", 1, 0), document("b", 0, 1, ttl=60.0)])
    return engine


async def test_documents_are_found_and_deleted(engine: VectorSetEngine) -> None:
    [result] = await engine.search([Query(COLLECTION, vector=vector(1, 0.1))])
    assert [hit.id for hit in result.hits] == ["a", "b"]
    assert await engine.matching_ids("c", None) == ["a", "b"]
    assert await engine.delete("c", ["a"]) == 1
    assert await engine.matching_ids("c", None) == ["b"]


async def test_maintenance_deletes_expired_documents(
    engine: VectorSetEngine,
    catalog: Catalog,
    documents: DocumentStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    await engine.maintain("c")
    assert await documents.list_ids(await catalog.get("c"), "", 10) == ["a"]


async def test_maintenance_resumes_a_reindex(engine: VectorSetEngine, catalog: Catalog) -> None:
    target = collection(metric="l2")
    await catalog.update(await catalog.get("c"), building=Index(2, 9.0, 1.0), target=target)
    await engine.maintain("c")
    record = await catalog.read("c")
    assert (record.collection, record.building) == (target, None)


async def test_a_reindex_changes_the_collection(engine: VectorSetEngine, catalog: Catalog) -> None:
    await engine.reindex("c", collection(index="flat"))
    assert (await catalog.read("c")).collection.index == "flat"
