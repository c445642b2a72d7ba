import pytest

from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.record import Record
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.engines.sharded_engine import ShardedEngine
from services.search.engines.vector_sets.engine import VectorSetEngine
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis


@pytest.fixture
def store(documents: DocumentStore, catalog: Catalog) -> ShardedDocumentStore:
    return ShardedDocumentStore(documents, catalog)


@pytest.fixture(params=[1, 4], ids=["one set", "shards"])
async def record(
    request: pytest.FixtureRequest,
    redis: VectorRedis,
    catalog: Catalog,
    documents: DocumentStore,
    store: ShardedDocumentStore,
) -> Record:
    """A collection of 20 documents, sharded or not."""
    vector_sets = VectorSetEngine(redis, catalog, documents)
    one = collection(shards=request.param)
    engine = ShardedEngine(vector_sets, catalog, store) if one.is_sharded else vector_sets
    record = await catalog.create(one)
    await engine.create(record)
    await engine.upsert(one, [document(f"d{at:02}", 1, at) for at in range(20)])
    return record


async def test_ids_are_listed_in_order(record: Record, store: ShardedDocumentStore) -> None:
    assert await store.list_ids(record, "", 3) == ["d00", "d01", "d02"]
    assert await store.list_ids(record, "d17", 5) == ["d18", "d19"]


async def test_documents_are_read_in_the_order_of_the_ids(
    record: Record, store: ShardedDocumentStore
) -> None:
    found = await store.get(record, ["d11", "none", "d02"])
    assert [one and one.id for one in found] == ["d11", None, "d02"]


async def test_documents_are_counted_and_measured(
    record: Record, store: ShardedDocumentStore
) -> None:
    assert await store.count(record) == 20
    assert await store.sizes([record, record]) == [(20, 20 * 500)] * 2


async def test_samples_have_the_requested_size(record: Record, store: ShardedDocumentStore) -> None:
    few = await store.sample_ids(record, 7, seed=1)
    assert len(set(few)) == 7
    assert await store.sample_ids(record, 7, seed=1) == few
    assert len(set(await store.sample_ids(record, 80, seed=1))) == 20
