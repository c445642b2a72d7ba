import time

import pytest

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


async def test_counters_add_up_for_each_partition(store: UsageStore) -> None:
    await store.add({("a", False): {"exact": 1, "money": 0.25}})
    await store.add({("a", False): {"exact": 2}})
    await store.add({("b", False): {"exact": 5}})
    assert await store.counters("a") == {"exact": 3, "money": 0.25}
    assert await store.counters("nothing") == {}


async def test_counters_expire_after_the_last_lookup() -> None:
    redis = FakeRedis()
    store = UsageStore(redis, "p:")  # type: ignore[arg-type]
    await store.add({("a", True): {"exact": 1}, ("b", False): {"miss": 1}})
    stats = {key: seconds for key, seconds in redis.expiries.items() if ":stats:" in key}
    assert stats == {f"p:gateway:stats:{one}": STATS_SECONDS for one in "ab"}


async def test_the_counters_of_many_partitions_take_few_round_trips(
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
    await store.add({(f"{number}", False): {"exact": 1} for number in range(BATCH_SIZE + 1)})
    assert trips == 2


async def test_the_history_has_a_slot_for_every_five_minutes_of_a_day(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add({("a", True): {"exact": 1}})
    monkeypatch.setattr(time, "time", lambda: NOW + SLOT_SECONDS)
    await store.add({("a", True): {"exact": 2}})
    await store.add({("a", False): {"exact": 4}})
    history = await store.history("a")
    assert len(history) == SLOTS == 24 * 60 / 5
    assert history[-2:] == [(NOW - 7, {"exact": 1}), (NOW - 7 + SLOT_SECONDS, {"exact": 2})]
    assert all(counts == {} for _, counts in history[:-2])
    assert await store.counters("a") == {"exact": 7}
