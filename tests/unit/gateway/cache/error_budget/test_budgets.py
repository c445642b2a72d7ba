import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.gateway.cache.error_budget import budgets as module
from services.gateway.cache.error_budget.budgets import TenantBudgets
from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.error_budget.types import Observation
from tests.fakes.redis import FakeRedis


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Replica:
    """The budgets of one replica. ``later`` holds its background work."""

    def __init__(self, redis: FakeRedis) -> None:
        self.later: list[Callable[[], Awaitable[None]]] = []
        self.store = ObservationStore(redis, "p:")  # type: ignore[arg-type]
        self.budgets = TenantBudgets(self.store, self.later.append)

    async def counts(self, tenant: str = "t") -> tuple[int, int]:
        return (await self.budgets.get(tenant)).error_counts()

    async def run_later(self) -> None:
        while self.later:
            await self.later.pop()()


def observation(*, correct: bool, served: bool = True) -> Observation:
    features = ErrorBudget().features([(0.9, "a"), (0.8, "b")], 1.0)
    return Observation(features, correct, served, 1.0, 0.75)


async def test_a_replica_learns_at_once_from_its_own_served_answers() -> None:
    one = Replica(FakeRedis())
    await one.budgets.add("t", observation(correct=False))
    await one.budgets.add("t", observation(correct=True))
    assert await one.counts() == (1, 2)
    assert await one.counts("u") == (0, 0)
    assert not one.later


async def test_other_replicas_refresh_in_the_background(clock: Clock) -> None:
    redis = FakeRedis()
    one, other = Replica(redis), Replica(redis)
    assert await other.counts() == (0, 0)
    await one.budgets.add("t", observation(correct=False))
    assert await other.counts() == (0, 0)
    assert not other.later  # it has refreshed just now
    clock.now += module.REFRESH_PERIOD + 0.1
    assert await other.counts() == (0, 0)
    await other.counts()
    assert len(other.later) == 1
    await other.run_later()
    assert await other.counts() == (1, 1)
    late = Replica(redis)
    assert await late.counts() == (1, 1)


async def test_a_fresh_budget_reads_at_once() -> None:
    redis = FakeRedis()
    one, other = Replica(redis), Replica(redis)
    await other.counts()
    await one.budgets.add("t", observation(correct=False))
    assert (await other.budgets.get_fresh("t")).error_counts() == (1, 1)


async def test_misses_are_fitted_together(clock: Clock) -> None:
    one = Replica(FakeRedis())
    await one.counts()
    clock.now += module.MIN_FIT_PERIOD / 2
    await one.budgets.add("t", observation(correct=True, served=False))
    budget = await one.budgets.get("t")
    assert len(budget._labels) == 0
    clock.now += module.MIN_FIT_PERIOD
    await one.budgets.add("t", observation(correct=True, served=False))
    assert len(budget._labels) == 2


async def test_concurrent_observations_are_read_once_each() -> None:
    one = Replica(FakeRedis())
    await asyncio.gather(
        *(one.budgets.add("t", observation(correct=number % 2 > 0)) for number in range(6))
    )
    assert await one.counts() == (3, 6)


async def test_the_tenants_seen_last_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TENANTS", 2)
    one = Replica(FakeRedis())
    budgets = [await one.budgets.get(tenant) for tenant in ("a", "b", "a", "c")]
    assert budgets[0] is budgets[2]
    assert await one.budgets.get("a") is budgets[0]
    assert await one.budgets.get("b") is not budgets[1]
