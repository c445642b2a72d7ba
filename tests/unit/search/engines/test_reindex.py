import asyncio
from typing import Any

import numpy as np
import pytest

from services.errors import FailedPrecondition, InvalidArgument
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.record import Index, Record
from services.search.engines.reindex import Reindexer
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.metric_transforms import HEADROOM
from services.search.types import Collection
from tests.fakes.search import collection, document, vector
from tests.fakes.search_redis import VectorRedis


@pytest.fixture
def engine(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> VectorSetEngine:
    return VectorSetEngine(redis, catalog, documents)


@pytest.fixture
def reindexer(engine: VectorSetEngine) -> Reindexer:
    return engine._reindexer


async def filled(catalog: Catalog, engine: VectorSetEngine, **options: Any) -> Record:
    """A collection of 100 documents with norms of up to 10."""
    one = collection(**options)
    await catalog.create(one)
    rows = [document(f"d{at:02}", 1 + at % 10, at / 100) for at in range(100)]
    for first in range(0, 100, 50):
        await engine.upsert(one, rows[first : first + 50])
    return await catalog.read("c")


async def prepare(reindexer: Reindexer, *numbers: float, **options: Any) -> Record:
    stems = options.pop("stems", [])
    expiring = options.pop("expiring", False)
    return await reindexer.prepare_write("c", vector(*numbers)[None], stems, expiring=expiring)


async def test_the_first_vectors_fit_the_transform(catalog: Catalog, reindexer: Reindexer) -> None:
    await catalog.create(collection(metric="ip"))
    record = await prepare(reindexer, 3, 4)
    assert record.index.generation == 1
    assert record.index.max_norm == pytest.approx(5 * HEADROOM)
    assert record.index.scale == pytest.approx(5.0)
    assert await prepare(reindexer, 5, 0) == record


async def test_ttls_and_stems_are_recorded_once(catalog: Catalog, reindexer: Reindexer) -> None:
    created = await catalog.create(collection())
    assert await prepare(reindexer, 1, 0, stems=[[]]) == created
    record = await prepare(reindexer, 1, 0, stems=[["a", "b"], [], ["c"]], expiring=True)
    assert (record.expiring, record.average_length) == (True, 1.5)
    assert await prepare(reindexer, 1, 0, stems=[["a"]], expiring=True) == record


async def test_a_larger_norm_causes_a_reindex(
    redis: VectorRedis, catalog: Catalog, engine: VectorSetEngine, reindexer: Reindexer
) -> None:
    old = await filled(catalog, engine, metric="l2")
    record = await prepare(reindexer, 30, 40)
    assert record.index.generation == 2
    assert record.index.max_norm == pytest.approx(50 * HEADROOM)
    keys = catalog.keys(record)
    assert len(redis.vector_sets[keys.vectors]) == 100
    assert catalog.keys(old).vectors not in redis.vector_sets
    assert (record.building, record.target) == (None, None)
    assert keys.lease not in redis.strings


async def test_a_slightly_larger_norm_grows_the_transform_by_the_headroom(
    catalog: Catalog, engine: VectorSetEngine, reindexer: Reindexer
) -> None:
    old = await filled(catalog, engine, metric="ip")
    record = await prepare(reindexer, old.index.max_norm + 0.01, 0)
    assert record.index.max_norm >= HEADROOM * old.index.max_norm


@pytest.mark.parametrize("target", [collection(metric="l2"), collection(index="flat", m=7)])
async def test_a_reindex_swaps_the_index_in(
    redis: VectorRedis,
    catalog: Catalog,
    engine: VectorSetEngine,
    reindexer: Reindexer,
    target: Collection,
) -> None:
    await filled(catalog, engine)
    await reindexer.reindex("c", target)
    record = await catalog.read("c")
    assert (record.collection, record.index.generation) == (target, 2)
    assert len(redis.vector_sets[catalog.keys(record).vectors]) == 100
    await reindexer.reindex("c", target)
    assert await catalog.read("c") == record


async def test_a_target_that_cannot_compare_a_vector_is_abandoned(
    redis: VectorRedis, catalog: Catalog, engine: VectorSetEngine, reindexer: Reindexer
) -> None:
    before = await filled(catalog, engine, metric="l2")
    await engine.upsert(before.collection, [document("zero", 0, 0)])
    with pytest.raises(FailedPrecondition) as caught:
        await reindexer.reindex("c", collection())
    assert (caught.value.reason, caught.value.metadata["id"]) == ("ZERO_VECTOR", "zero")
    record = await catalog.read("c")
    assert (record.building, record.target, record.collection) == (None, None, before.collection)
    assert catalog.keys(record).lease not in redis.strings


async def test_another_change_is_refused_while_one_is_running(
    catalog: Catalog, reindexer: Reindexer
) -> None:
    record = await catalog.create(collection())
    await catalog.update(record, building=Index(2), target=collection(metric="l2"))
    with pytest.raises(FailedPrecondition) as caught:
        await reindexer.reindex("c", collection(metric="ip"))
    assert caught.value.reason == "REINDEX_RUNNING"


async def test_an_interrupted_reindex_is_resumed(
    redis: VectorRedis, catalog: Catalog, engine: VectorSetEngine, reindexer: Reindexer
) -> None:
    record = await filled(catalog, engine)
    target = collection(metric="l2")
    stopped = await catalog.update(record, building=Index(2, 20.0, 1.0), target=target)
    assert stopped
    await reindexer.resume(stopped)
    resumed = await catalog.read("c")
    assert (resumed.collection, resumed.index.generation) == (target, 3)
    assert resumed.index.max_norm == 20.0
    assert len(redis.vector_sets[catalog.keys(resumed).vectors]) == 100
    await reindexer.resume(resumed)
    assert await catalog.read("c") == resumed


async def test_writers_feed_both_indexes_and_check_vectors_for_the_target(
    redis: VectorRedis, catalog: Catalog, engine: VectorSetEngine, reindexer: Reindexer
) -> None:
    before = await filled(catalog, engine, metric="l2")
    target = collection()
    await catalog.update(before, building=Index(2), target=target)
    with pytest.raises(InvalidArgument):
        await prepare(reindexer, 0, 0)
    await engine.upsert(before.collection, [document("new", 1, 1)])
    keys = catalog.keys(await catalog.get("c"))
    assert b"new" in redis.vector_sets[keys.vectors]
    assert b"new" in redis.vector_sets[keys.newest_vectors]


class ThatWaits(VectorSetEngine):
    """Copies nothing before ``go`` is set."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        copy = self.copy

        async def wait_and_copy(**options: Any) -> Any:
            self.reached.set()
            await self.go.wait()
            return await copy(**options)

        self.copy = wait_and_copy


async def test_a_reindex_outlives_its_caller_and_includes_later_writes(
    redis: VectorRedis, catalog: Catalog, documents: DocumentStore
) -> None:
    engine = ThatWaits(redis, catalog, documents)
    before = await filled(catalog, engine)
    caller = asyncio.create_task(engine.reindex("c", collection(metric="l2")))
    await engine.reached.wait()
    caller.cancel()
    await asyncio.wait([caller])
    await engine.upsert(before.collection, [document("d00", 5, 5), document("late", 6, 6)])
    await engine.delete("c", ["d01"])
    engine.go.set()
    await engine._reindexer._running["c"]
    record = await catalog.read("c")
    keys = catalog.keys(record)
    assert record.collection.metric == "l2"
    assert {b"d00", b"late"} <= set(redis.vector_sets[keys.vectors])
    assert b"d01" not in redis.vector_sets[keys.vectors]
    transform = record.transform
    expected = transform.transform(vector(5, 5)[None])[0]
    assert np.allclose(redis.vector_sets[keys.vectors][b"d00"][0], expected, atol=1e-6)


async def test_a_process_without_the_lease_leaves_the_reindex_to_the_other(
    redis: VectorRedis,
    catalog: Catalog,
    engine: VectorSetEngine,
    reindexer: Reindexer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = await filled(catalog, engine)
    lease, target = catalog.keys(record).lease, collection(metric="l2")
    redis.strings[lease] = b"another process"
    polls = []
    sleep = asyncio.sleep

    async def poll(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 3:
            del redis.strings[lease]
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", poll)
    await reindexer.reindex("c", target)
    assert len(polls) == 3
    assert (await catalog.read("c")).collection == target


class Meddling(VectorSetEngine):
    """Calls ``meddle`` before the first copy."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.meddle: Any = None
        copy = self.copy

        async def meddle_and_copy(**options: Any) -> Any:
            if self.meddle:
                meddle, self.meddle = self.meddle, None
                await meddle()
            return await copy(**options)

        self.copy = meddle_and_copy


@pytest.fixture
def meddling(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> Meddling:
    return Meddling(redis, catalog, documents)


async def test_a_reindex_continues_when_the_record_changes_meanwhile(
    redis: VectorRedis, catalog: Catalog, meddling: Meddling
) -> None:
    await filled(catalog, meddling)

    async def change() -> None:
        other = Catalog(redis, "p:")
        assert await other.update(await other.read("c"), average_length=5.0)

    meddling.meddle = change
    await meddling.reindex("c", collection(metric="l2"))
    record = await catalog.read("c")
    assert (record.collection.metric, record.average_length) == ("l2", 5.0)
    assert record.index.generation == 2
    assert len(redis.vector_sets[catalog.keys(record).vectors]) == 100


async def test_a_reindex_that_lost_its_index_to_another_process_starts_again(
    redis: VectorRedis, catalog: Catalog, meddling: Meddling
) -> None:
    await filled(catalog, meddling)

    async def take_over() -> None:
        other = Catalog(redis, "p:")
        record = await other.read("c")
        assert await other.update(record, building=Index(9, 100.0, 1.0))

    meddling.meddle = take_over
    await meddling.reindex("c", collection(metric="l2"))
    record = await catalog.read("c")
    assert record.index.generation == 10
    assert (record.collection.metric, record.building) == ("l2", None)


async def test_a_larger_vector_that_came_before_the_copy_restarts_the_reindex(
    redis: VectorRedis, catalog: Catalog, meddling: Meddling
) -> None:
    before = await filled(catalog, meddling)
    keys = catalog.keys(before)

    async def write_past_the_transform() -> None:
        redis.hashes[keys.document("d99")]["v"] = vector(500, 0).tobytes()

    meddling.meddle = write_past_the_transform
    await meddling.reindex("c", collection(metric="l2"))
    record = await catalog.read("c")
    assert record.index.generation == 3
    assert record.index.max_norm == pytest.approx(500 * HEADROOM)
