import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from services import deadlines
from services.errors import Unavailable
from services.gateway.backends.types import CollectionSpec, Document
from services.gateway.cache import eviction as module
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.index import FIELDS, collection_name
from services.gateway.cache.owners import Owner
from services.gateway.cache.store import CacheBytes
from tests.fakes.backends import FakeSearch
from tests.fakes.cache_store import FakeCacheStore

PARTITION = "00000001"
NAME = collection_name("digest", PARTITION)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


async def idle(eviction: Eviction) -> None:
    """Wait until no eviction is running."""
    if eviction._task:
        await asyncio.wait_for(asyncio.wait([eviction._task]), 30)


async def fill(count: int) -> tuple[FakeCacheStore, FakeSearch, int]:
    """A store and a search with this many entries, and their size in bytes."""
    store, search, total = FakeCacheStore(), FakeSearch(), 0
    await search.ensure(CollectionSpec(NAME, 4, "digest", FIELDS))
    for number in range(count):
        record: dict[str, Any] = {"id": f"{number:03}", "digest": "digest", "vector": ""}
        total = (await store.put(Owner(PARTITION, "tenant"), record, 0)).total
        document = Document(record["id"], np.ones(4, np.float32))
        await search.upsert(NAME, [document], "digest")
    return store, search, total


async def test_entries_leave_the_store_and_search(clock: Clock) -> None:
    store, search, total = await fill(100)
    eviction = Eviction(store, search, MemoryLimits(total // 2))
    eviction.record(CacheBytes(total, total))
    await idle(eviction)
    assert 45 < len(store.records) < 50  # a little below the limit
    assert set(search.documents(NAME)) == set(store.records)
    assert await store.removed() == {}


async def test_nothing_is_evicted_below_the_limit(clock: Clock) -> None:
    store, search, total = await fill(10)
    for limits in (MemoryLimits(total), MemoryLimits(), MemoryLimits.of(0, 0)):
        eviction = Eviction(store, search, limits)
        eviction.record(CacheBytes(total, total))
        eviction.record(CacheBytes(-1, -1))
        await idle(eviction)
    assert len(store.records) == 10


async def test_a_tenant_over_its_limit_is_evicted(clock: Clock) -> None:
    store, search, total = await fill(10)
    eviction = Eviction(store, search, MemoryLimits(tenant=total // 2))
    eviction.record(CacheBytes(total, total // 2))
    await idle(eviction)
    assert len(store.records) == 10
    eviction.record(CacheBytes(total, total))
    await idle(eviction)
    assert len(store.records) < 6


async def test_entries_that_another_replica_evicted_leave_search(clock: Clock) -> None:
    store, search, total = await fill(10)
    await store.evict(total - 1)
    eviction = Eviction(store, search, MemoryLimits())
    clock.now += module.EXPIRY_PERIOD + 1
    eviction.record(CacheBytes(total, total))
    await idle(eviction)
    assert "000" not in search.documents(NAME)
    assert await store.removed() == {}


async def test_several_batches_run_until_the_limit_holds(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 7)
    monkeypatch.setattr("services.gateway.cache.gdsf.BATCH_SIZE", 7)
    store, search, total = await fill(50)
    eviction = Eviction(store, search, MemoryLimits(total // 2))
    eviction.record(CacheBytes(total, total))
    await idle(eviction)
    assert len(store.records) < 25
    assert set(search.documents(NAME)) == set(store.records)


async def test_a_failed_eviction_is_tried_again(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    store, search, total = await fill(10)
    store.failure = Unavailable("REDIS_UNAVAILABLE", "Redis is unreachable.")
    eviction = Eviction(store, search, MemoryLimits(total // 2))
    evict, failed = store.evict, asyncio.Event()

    async def evict_or_fail(max_bytes: float, tenant_max_bytes: float) -> int:
        failed.set()
        return await evict(max_bytes, tenant_max_bytes)

    monkeypatch.setattr(store, "evict", evict_or_fail)
    eviction.record(CacheBytes(total, total))
    await asyncio.wait_for(failed.wait(), 30)
    store.failure = None
    await idle(eviction)
    assert "will be tried again" in caplog.text
    assert len(store.records) < 6


async def test_an_eviction_has_a_deadline_of_its_own(clock: Clock) -> None:
    store, search, total = await fill(10)
    eviction = Eviction(store, search, MemoryLimits(total // 2))
    left: list[float | None] = []
    delete = search.delete

    async def record_deadline(collection: str, ids: Sequence[str]) -> None:
        left.append(deadlines.time_left())
        await delete(collection, ids)

    search.delete = record_deadline  # type: ignore[method-assign]
    with deadlines.limit(1e9):
        eviction.record(CacheBytes(total, total))
    await idle(eviction)
    assert left[0] is not None
    assert left[0] <= deadlines.DEFAULT_DEADLINE


async def test_closing_stops_a_failing_eviction(clock: Clock) -> None:
    store, search, total = await fill(10)
    store.failure = Unavailable("REDIS_UNAVAILABLE", "Redis is unreachable.")
    eviction = Eviction(store, search, MemoryLimits(total // 2))
    eviction.start()
    await asyncio.wait_for(eviction.close(), 30)
    await Eviction(store, search, MemoryLimits()).close()


async def test_one_eviction_runs_at_a_time(clock: Clock) -> None:
    store, search, total = await fill(10)
    eviction = Eviction(store, search, MemoryLimits(total // 2))
    eviction.record(CacheBytes(total, total))
    task = eviction._task
    eviction.record(CacheBytes(total, total))
    assert eviction._task is task
    await idle(eviction)
    await asyncio.sleep(0)
