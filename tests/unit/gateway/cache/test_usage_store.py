import time

import pytest

from services.gateway.cache.owners import Owner
from services.gateway.cache.usage_store import (
    BATCH_SIZE,
    SLOT_SECONDS,
    SLOTS,
    STATS_SECONDS,
    UsageStore,
)
from tests.fakes.redis import FakePipeline, FakeRedis

NOW = 1_000_000 * SLOT_SECONDS + 7.0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> UsageStore:
    monkeypatch.setattr(time, "time", lambda: NOW)
    return UsageStore(FakeRedis(), "p:")  # type: ignore[arg-type]


def scope(name: str) -> Owner:
    return Owner(name, "tenant")


async def test_counters_add_up_for_each_scope_and_its_tenant(store: UsageStore) -> None:
    await store.add({scope("a"): {"exact": 1, "money": 0.25}})
    await store.add({scope("a"): {"exact": 2}, scope("b"): {"exact": 5}})
    await store.add({Owner("c", "other"): {"exact": 8}})
    assert await store.counters("a") == {"exact": 3, "money": 0.25}
    assert await store.counters("tenant") == {"exact": 8, "money": 0.25}
    assert await store.counters("nothing") == {}


async def test_counters_expire_after_the_last_lookup() -> None:
    redis = FakeRedis()
    store = UsageStore(redis, "p:")  # type: ignore[arg-type]
    await store.add({scope("a"): {"exact": 1}, scope("b"): {"miss": 1}})
    stats = {key: seconds for key, seconds in redis.expiries.items() if ":stats:" in key}
    assert stats == {f"p:gateway:stats:{one}": STATS_SECONDS for one in ("a", "b", "tenant")}


async def test_a_tenant_has_counters_of_a_limited_number_of_scopes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateway.cache.usage_store.MAX_SCOPES", 2)
    redis = FakeRedis()
    store = UsageStore(redis, "p:")  # type: ignore[arg-type]
    await store.add({Owner("x", "other"): {"exact": 1}})
    for number in range(10):
        await store.add({scope(f"{number}"): {"exact": 1}})
    kept = {key.rpartition(":")[2] for key in redis.values if ":stats:" in key}
    assert kept == {"x", "other", "8", "9", "tenant"}
    assert await store.counters("tenant") == {"exact": 10}


async def test_the_counters_of_many_scopes_take_few_round_trips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis, trips = FakeRedis(), 0
    execute = FakePipeline.execute

    async def count(pipe: FakePipeline) -> list[object]:
        nonlocal trips
        trips += 1
        return await execute(pipe)

    monkeypatch.setattr(FakePipeline, "execute", count)
    store = UsageStore(redis, "p:")  # type: ignore[arg-type]
    await store.add({scope(f"{number}"): {"exact": 1} for number in range(BATCH_SIZE)})
    assert trips == 3  # two for the counters of the scopes and the tenant, one for their list


async def test_the_history_has_a_slot_for_every_five_minutes_of_a_day(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add({scope("a"): {"exact": 1}})
    monkeypatch.setattr(time, "time", lambda: NOW + SLOT_SECONDS)
    await store.add({scope("b"): {"exact": 2}})
    history = await store.history("tenant")
    assert len(history) == SLOTS == 24 * 60 / 5
    assert history[-2:] == [(NOW - 7, {"exact": 1}), (NOW - 7 + SLOT_SECONDS, {"exact": 2})]
    assert all(counts == {} for _, counts in history[:-2])
    assert not any(counts for _, counts in await store.history("a"))
