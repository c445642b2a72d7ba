import asyncio
from typing import Any

import pytest

from services.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.record import Index
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.filters import ExistsCondition
from services.search.updates import FieldsUpdate, Updates
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(fields={"n": "number", "t": "tag"})


@pytest.fixture
def engine(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> VectorSetEngine:
    return VectorSetEngine(redis, catalog, documents)


@pytest.fixture
async def updates(engine: VectorSetEngine, catalog: Catalog, documents: DocumentStore) -> Updates:
    await catalog.create(COLLECTION)
    rows = [document(f"d{at}", 1, at, fields={"n": float(at), "t": "old"}) for at in range(3)]
    await engine.upsert(COLLECTION, rows)
    return Updates(catalog, ShardedDocumentStore(documents, catalog), lambda _: engine)


async def fields(documents: DocumentStore, catalog: Catalog) -> list[Any]:
    found = await documents.get(await catalog.get("c"), ["d0", "d1", "d2"])
    return [one and one.fields for one in found]


async def test_settings_change_at_once(updates: Updates, catalog: Catalog) -> None:
    await updates.update_collection("c", {}, {"ef_runtime": 77, "model_digest": "m"})
    record = await catalog.read("c")
    assert (record.collection.ef_runtime, record.collection.model_digest) == (77, "m")
    assert record.target is None
    with pytest.raises(InvalidArgument):
        await updates.update_collection("c", {}, {"ef_runtime": 0})


async def test_added_fields_can_be_searched(
    updates: Updates, catalog: Catalog, engine: VectorSetEngine
) -> None:
    await updates.update_collection("c", {"w": "text", "n": "number"}, {})
    record = await catalog.read("c")
    assert (list(record.collection.fields), record.target) == (["n", "t", "w"], None)
    assert await engine.matching_ids("c", ExistsCondition("w")) == []
    with pytest.raises(AlreadyExists) as caught:
        await updates.update_collection("c", {"n": "tag"}, {})
    assert caught.value.reason == "FIELD_EXISTS"


async def test_one_change_runs_at_a_time(updates: Updates, catalog: Catalog) -> None:
    await catalog.update(await catalog.get("c"), building=Index(2))
    with pytest.raises(Aborted):
        await updates.update_collection("c", {}, {"ef_runtime": 77})


async def test_a_declaration_that_was_interrupted_is_finished(
    updates: Updates, catalog: Catalog
) -> None:
    target = collection(fields={**COLLECTION.fields, "w": "text"})
    stopped = await catalog.update(await catalog.get("c"), target=target)
    assert stopped
    await updates.finish_added_fields(stopped)
    record = await catalog.read("c")
    assert (record.collection, record.target) == (target, None)
    await updates.finish_added_fields(record)


async def test_fields_are_set_and_removed(
    updates: Updates, catalog: Catalog, documents: DocumentStore
) -> None:
    requested = [FieldsUpdate("d0", {"n": 9.0}), FieldsUpdate("d2", {"n": 8.0}, ("t", "n"))]
    assert await updates.update_fields("c", requested) == 2
    assert await fields(documents, catalog) == [
        *({"n": 9.0, "t": "old"}, {"n": 1.0, "t": "old"}, {"n": 8.0})
    ]


@pytest.mark.parametrize(
    ("update", "kind"),
    [
        (FieldsUpdate("none", {"n": 1.0}), NotFound),
        (FieldsUpdate("d1", {"n": "text"}), InvalidArgument),
        (FieldsUpdate("d1", {"x": 1.0}), InvalidArgument),
    ],
)
async def test_nothing_is_updated_if_one_update_is_invalid(
    updates: Updates,
    catalog: Catalog,
    documents: DocumentStore,
    update: FieldsUpdate,
    kind: Any,
) -> None:
    before = await fields(documents, catalog)
    with pytest.raises(kind) as caught:
        await updates.update_fields("c", [FieldsUpdate("d0", {"n": 9.0}), update])
    assert caught.value.field.startswith("updates[1]")
    assert await fields(documents, catalog) == before


@pytest.fixture
def conflicts(engine: VectorSetEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The outcomes of writes before they succeed. Delays take no time."""
    outcomes: list[str] = []
    write = engine.write_fields

    async def conflicting(*arguments: Any) -> str:
        return outcomes.pop(0) if outcomes else await write(*arguments)

    async def sleep(seconds: float) -> None:
        """Retry at once."""

    monkeypatch.setattr(engine, "write_fields", conflicting)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return outcomes


async def test_an_update_is_repeated_after_a_conflict(
    updates: Updates, catalog: Catalog, documents: DocumentStore, conflicts: list[str]
) -> None:
    conflicts += ["changed", "stale", "missing"]
    assert await updates.update_fields("c", [FieldsUpdate("d0", {"n": 9.0})]) == 1
    assert (await fields(documents, catalog))[0] == {"n": 9.0, "t": "old"}


async def test_an_update_that_never_succeeds_is_aborted(
    updates: Updates, conflicts: list[str]
) -> None:
    conflicts += ["changed"] * 20
    with pytest.raises(Aborted) as caught:
        await updates.update_fields("c", [FieldsUpdate("d0", {"n": 9.0})])
    assert caught.value.reason == "COLLECTION_CHANGING"


async def test_a_reindex_swaps_the_index(updates: Updates, catalog: Catalog) -> None:
    progress = [one async for one in updates.reindex("c", {"metric": "l2"})]
    assert progress == []
    assert (await catalog.read("c")).collection.metric == "l2"
    with pytest.raises(FailedPrecondition):
        _ = [one async for one in updates.reindex("c", {"vector_type": "int8"})]


async def test_a_reindex_reports_its_progress(
    updates: Updates,
    catalog: Catalog,
    engine: VectorSetEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.search.updates._PROGRESS_SECONDS", 0.0)
    go = asyncio.Event()

    async def slow_reindex(name: str, target: Any) -> None:
        await go.wait()

    monkeypatch.setattr(engine, "reindex", slow_reindex)
    stream = updates.reindex("c", {"metric": "l2"})
    first = await anext(stream)
    assert (first.indexed, first.total) == (0, 3)
    await catalog.update(await catalog.get("c"), building=Index(1))
    second = await anext(stream)
    assert (second.indexed, second.total) == (3, 3)
    go.set()
    assert [one async for one in stream][-1:] in ([], [second])
