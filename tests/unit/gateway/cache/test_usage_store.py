import time

import pytest

from services.gateway.cache.usage_store import SLOT_SECONDS, SLOTS, UsageStore
from tests.fakes.redis import FakeRedis

NOW = 1_000_000 * SLOT_SECONDS + 7.0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> UsageStore:
    monkeypatch.setattr(time, "time", lambda: NOW)
    return UsageStore(FakeRedis(), "p:")  # type: ignore[arg-type]


async def test_counters_add_up_for_each_partition(store: UsageStore) -> None:
    await store.add("a", {"exact": 1, "money": 0.25}, history=False)
    await store.add("a", {"exact": 2}, history=False)
    await store.add("b", {"exact": 5}, history=False)
    assert await store.counters("a") == {"exact": 3, "money": 0.25}
    assert await store.counters("nothing") == {}


async def test_the_history_has_a_slot_for_every_five_minutes_of_a_day(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add("a", {"exact": 1}, history=True)
    monkeypatch.setattr(time, "time", lambda: NOW + SLOT_SECONDS)
    await store.add("a", {"exact": 2}, history=True)
    await store.add("a", {"exact": 4}, history=False)
    history = await store.history("a")
    assert len(history) == SLOTS == 24 * 60 / 5
    assert history[-2:] == [(NOW - 7, {"exact": 1}), (NOW - 7 + SLOT_SECONDS, {"exact": 2})]
    assert all(counts == {} for _, counts in history[:-2])
    assert await store.counters("a") == {"exact": 7}
