import pytest
from redis import exceptions

from services.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    Failure,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from services.search.engines.catalog import Catalog
from services.search.engines.server import Server
from services.search.filters import NumberCondition
from services.search.service import SearchService, _default_engine
from services.search.types import Collection, Query
from tests.fakes.search import collection, document, vector
from tests.fakes.search_redis import VectorRedis

FIELDS = {"n": "number"}


async def fill(service: SearchService, **options: object) -> Collection:
    """Create a collection of 5 documents."""
    created = (await service.create(collection(fields=FIELDS, **options))).collection
    rows = [document(f"d{at}", 1, at, fields={"n": float(at)}) for at in range(5)]
    assert await service.upsert(created, rows) == [True] * 5
    return created


async def test_a_collection_is_created_filled_described_and_dropped(
    service: SearchService,
) -> None:
    created = await fill(service)
    await service.assign_alias("a", "c")
    info = await service.describe("a")
    assert (info.collection, info.count, list(info.aliases)) == (created, 5, ["a"])
    assert info.memory == 5 * 100 + 5 * 500
    assert (info.ready, list(info.warnings)) == (True, [])
    assert (await service.index_status("c")).memory == 500
    with pytest.raises(FailedPrecondition):
        await service.drop("a")
    assert await service.drop("c") == 5
    for name in ("a", "c"):
        with pytest.raises(NotFound):
            await service.collection(name)


async def test_sharded_collections_work_alike(service: SearchService) -> None:
    sharded = await fill(service, shards=3)
    [result] = await service.search([Query(sharded, vector=vector(1, 4), limit=2)])
    assert [hit.id for hit in result.hits] == ["d4", "d3"]
    assert (await service.describe("c")).count == 5
    assert await service.drop("c") == 5


@pytest.mark.parametrize(
    ("options", "engine"),
    [
        ({}, "query_engine"),
        ({"quantization": "q8"}, "vector_sets"),
        ({"reduced_dimensions": 1}, "vector_sets"),
        ({"shards": 2}, "vector_sets"),
    ],
)
def test_the_query_engine_is_the_default_where_it_will_do(
    options: dict[str, object], engine: str
) -> None:
    both, sets = Server("8", True, True, False), Server("8", True, False, False)
    assert _default_engine(collection(**options), both) == engine
    assert _default_engine(collection(**options), sets) == "vector_sets"


async def test_a_collection_whose_index_fails_leaves_nothing(
    service: SearchService, redis: VectorRedis
) -> None:
    def refuse(name: str, *words: object) -> None:
        raise exceptions.ResponseError("Bad arguments")

    redis.query_engine = refuse
    with pytest.raises(FailedPrecondition) as caught:
        await service.create(collection(engine="query_engine"))
    assert caught.value.reason == "INDEX_NOT_SUPPORTED"
    with pytest.raises(NotFound):
        await service.collection("c")


async def test_an_engine_that_is_missing_is_refused(service: SearchService) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await service.create(collection(engine="query_engine"))
    assert caught.value.reason == "NEEDS_QUERY_ENGINE"


async def test_ensure_accepts_an_identical_collection_only(service: SearchService) -> None:
    first = await service.ensure(collection())
    assert await service.ensure(collection()) == first
    with pytest.raises(AlreadyExists):
        await service.ensure(collection(metric="l2"))


async def test_collections_are_listed_in_pages_without_temporary_ones(
    service: SearchService,
) -> None:
    for name in ("b", "a", ".tune-1", "c"):
        await service.create(collection(name=name))
    page, token = await service.list_collections(2, "")
    assert ([one.collection.name for one in page], token) == (["a", "b"], "b")
    page, token = await service.list_collections(2, token)
    assert ([one.collection.name for one in page], token) == (["c"], "")


async def test_documents_are_listed_in_pages(service: SearchService) -> None:
    await fill(service)
    page, token = await service.list_documents("c", None, 3, "")
    assert ([one.id for one in page], token) == (["d0", "d1", "d2"], "d2")
    large = NumberCondition("n", "gt", (1.0,))
    page, token = await service.list_documents("c", large, 2, "")
    assert ([one.id for one in page], token[-3:]) == (["d2", "d3"], "/d3")
    page, token = await service.list_documents("c", large, 2, token)
    assert ([one.id for one in page], token) == (["d4"], "")
    exported = [one.id async for batch in service.export("c") for one in batch]
    assert exported == ["d0", "d1", "d2", "d3", "d4"]


async def test_a_deletion_by_filter_needs_force(service: SearchService) -> None:
    await fill(service)
    large = NumberCondition("n", "gt", (1.0,))
    assert await service.delete_matching("c", large, force=False) == (3, ["d2", "d3", "d4"])
    assert await service.delete_matching("c", large, force=True) == (3, [])
    assert await service.delete("c", ["d0", "d9"]) == 1
    assert await service.sample_ids("c", 10, seed=0) == ["d1"]
    with pytest.raises(InvalidArgument):
        await service.delete_matching("c", NumberCondition("x", "gt", (1.0,)), force=True)


async def test_documents_checked_for_an_older_collection_are_written_if_they_fit(
    service: SearchService, redis: VectorRedis
) -> None:
    old = await fill(service)
    await service.updates.update_collection("c", {"t": "tag"}, {})
    assert await service.upsert(old, [document("new", 1, 1)]) == [True]
    other = Catalog(redis, "p:")
    narrow = collection(fields={})
    await other.update(await other.read("c"), collection=narrow)
    with pytest.raises(Aborted):
        await service.upsert(old, [document("new", 1, 1)])


async def test_a_write_that_conflicts_with_an_unchanged_collection_is_aborted(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await fill(service)
    conflicts = [Aborted("COLLECTION_CHANGING", "")]

    async def conflict(*arguments: object) -> list[bool]:
        raise conflicts.pop()

    monkeypatch.setattr(service._vector_sets, "upsert", conflict)
    with pytest.raises(Aborted):
        await service.upsert(created, [document("new", 1, 1)])


async def test_vectors_are_checked_again_for_a_new_metric(
    service: SearchService, redis: VectorRedis
) -> None:
    old = await fill(service, metric="l2")
    other = Catalog(redis, "p:")
    await other.update(await other.read("c"), collection=collection(fields=FIELDS))
    with pytest.raises(InvalidArgument) as caught:
        await service.upsert(old, [document("zero", 0, 0)])
    assert caught.value.reason == "ZERO_VECTOR"


async def test_the_cache_is_used_only_on_request(
    service: SearchService, redis: VectorRedis
) -> None:
    old = await fill(service)
    other = Catalog(redis, "p:")
    new = collection(fields=FIELDS, metric="l2")
    await other.update(await other.read("c"), collection=new)
    assert await service.collection("c", cached=True) == old
    assert await service.collection("c") == new


async def test_readiness_follows_redis_and_probes_it_again(
    service: SearchService, redis: VectorRedis
) -> None:
    assert await service.ready()
    redis.failure = ConnectionError()
    with pytest.raises(Unavailable):
        await service.ready()
    redis.failure, redis.version = None, "8.12.0"
    assert await service.ready()
    assert (await service.server()).version == "8.12.0"


async def test_warnings_of_the_server_are_described(
    service: SearchService, redis: VectorRedis
) -> None:
    redis.settings = {"appendonly": "no"}
    [warning] = (await service.create(collection())).warnings
    assert "append-only" in warning


async def test_an_unknown_alias_is_not_found(service: SearchService) -> None:
    for call in (service.delete_alias("a"), service.assign_alias("a", "none")):
        with pytest.raises(Failure):
            await call
