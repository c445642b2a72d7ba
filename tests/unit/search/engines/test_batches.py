"""Tests batches that take more than one script."""

import asyncio
import time

import numpy as np
import pytest

from services.errors import Unavailable
from services.search.engines import batches
from services.search.engines.batches import MAX_SCRIPT_BYTES, MAX_SCRIPT_DOCUMENTS, split
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.record import Record
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.types import Document
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(fields={"n": "number"})
COUNT = 3 * MAX_SCRIPT_DOCUMENTS + 1


@pytest.fixture
def engine(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> VectorSetEngine:
    return VectorSetEngine(redis, catalog, documents)


@pytest.fixture
async def record(catalog: Catalog) -> Record:
    return await catalog.create(COLLECTION)


def rows(count: int = COUNT, number: float = 1.0, ttl: float = 0.0) -> list[Document]:
    return [
        document(f"d{at:03}", 1, at, text=f"text {at}", fields={"n": number}, ttl=ttl)
        for at in range(count)
    ]


def staged_keys(redis: VectorRedis) -> list[str]:
    parts = (":staged:", ":batch:", ":batches", ":pending")
    stores = {**redis.hashes, **redis.sorted_sets}
    return [key for key, value in stores.items() if value and any(one in key for one in parts)]


async def stored(documents: DocumentStore, record: Record) -> dict[str, Document]:
    ids = await documents.list_ids(record, "", 1_000)
    return {one.id: one for one in await documents.get(record, ids) if one}


def test_batches_are_split_by_count_and_by_bytes() -> None:
    assert [len(chunk) for chunk in split(rows(20))] == [8, 8, 4]
    half = [document("d", 1, 1, payload=b"x" * (MAX_SCRIPT_BYTES // 2 - 8)) for _ in range(5)]
    assert [len(chunk) for chunk in split(half)] == [2, 2, 1]
    large = document("d", 1, 1, text="x" * 3 * MAX_SCRIPT_BYTES)
    assert [len(chunk) for chunk in split([large, large])] == [1, 1]


async def test_a_large_batch_is_written_and_leaves_nothing_staged(
    redis: VectorRedis, record: Record, engine: VectorSetEngine, documents: DocumentStore
) -> None:
    assert await engine.upsert(COLLECTION, rows(3)) == [True] * 3
    assert await engine.upsert(COLLECTION, rows(ttl=60.0)) == [False] * 3 + [True] * (COUNT - 3)
    found = await stored(documents, record)
    assert [one.text for one in found.values()] == [one.text for one in rows()]
    assert all(0 < one.ttl <= 60 for one in found.values())
    assert np.array_equal(found["d007"].vector, rows()[7].vector)
    assert staged_keys(redis) == []


async def test_a_batch_that_cannot_be_staged_leaves_no_document(
    redis: VectorRedis,
    record: Record,
    engine: VectorSetEngine,
    documents: DocumentStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(redis, "hset", fail)
        with pytest.raises(Unavailable):
            await engine.upsert(COLLECTION, rows())
    assert await stored(documents, record) == {}
    monkeypatch.setattr(batches, "ABANDONED_SECONDS", -1.0)
    await engine.maintain("c")
    assert await stored(documents, record) == {}
    assert staged_keys(redis) == []


async def interrupt(engine: VectorSetEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process die after one script of a batch."""
    write, calls = engine.write_documents, 0

    async def fail_twice(*arguments: object) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Unavailable("REDIS_UNAVAILABLE", "Redis is unreachable.")
        return await write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(engine, "write_documents", fail_twice)
        with pytest.raises(Unavailable):
            await engine.upsert(COLLECTION, rows())


async def test_an_interrupted_batch_is_finished_by_maintenance(
    redis: VectorRedis,
    record: Record,
    engine: VectorSetEngine,
    documents: DocumentStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await interrupt(engine, monkeypatch)
    assert len(await stored(documents, record)) == MAX_SCRIPT_DOCUMENTS
    await engine.maintain("c")  # the batch could still be running
    assert len(await stored(documents, record)) == MAX_SCRIPT_DOCUMENTS
    later = time.time() + batches.ABANDONED_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    await engine.maintain("c")
    assert len(await stored(documents, record)) == COUNT
    assert staged_keys(redis) == []


async def test_an_interrupted_batch_does_not_overwrite_later_changes(
    redis: VectorRedis,
    record: Record,
    engine: VectorSetEngine,
    documents: DocumentStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await interrupt(engine, monkeypatch)
    last, before_last = rows()[-1], rows()[-2]
    newer = document(last.id, 0, 1, text="newer")
    await engine.upsert(COLLECTION, [newer])
    await engine.delete("c", [before_last.id])
    monkeypatch.setattr(batches, "ABANDONED_SECONDS", -1.0)
    await engine.maintain("c")
    found = await stored(documents, record)
    assert found[last.id].text == "newer"
    assert before_last.id not in found
    assert len(found) == COUNT - 1
    assert staged_keys(redis) == []


async def test_a_batch_is_written_even_if_its_caller_leaves(
    record: Record,
    engine: VectorSetEngine,
    documents: DocumentStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, started, release = engine.write_documents, asyncio.Event(), asyncio.Event()

    async def wait_for_release(*arguments: object) -> list[bool]:
        started.set()
        await release.wait()
        return await write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "write_documents", wait_for_release)
    caller = asyncio.create_task(engine.upsert(COLLECTION, rows()))
    await asyncio.wait_for(started.wait(), 30)
    [task] = engine._batches._running
    caller.cancel()
    await asyncio.wait([caller])
    release.set()
    await asyncio.wait_for(asyncio.wait([task]), 30)
    assert len(await stored(documents, record)) == COUNT


async def test_a_deleted_collection_leaves_no_staged_documents(
    redis: VectorRedis,
    record: Record,
    catalog: Catalog,
    engine: VectorSetEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await interrupt(engine, monkeypatch)
    assert staged_keys(redis)
    assert await catalog.delete(await catalog.read("c"))
    assert staged_keys(redis) == []
