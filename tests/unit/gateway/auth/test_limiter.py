import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.errors import Overloaded
from services.gateway.auth.counts import Counts
from services.gateway.auth.limit_store import Decision, Subject, Subjects
from services.gateway.auth.limiter import LimitedCall, Limiter
from services.key_file import Limits

NOW = 600.0


class FakeStore:
    """Admits what the counters of one process admit, and can fail or wait."""

    def __init__(self) -> None:
        self.counts = Counts(NOW)
        self.batches: list[list[str]] = []
        self.released: list[str] = []
        self.is_down = False
        self.was_asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def acquire(
        self, calls: Mapping[Subjects, Sequence[str]], ended: Mapping[Subject, Sequence[str]]
    ) -> list[Decision]:
        self.batches.append([one for ids in calls.values() for one in ids])
        self.was_asked.set()
        await self.may_answer.wait()
        self._check()
        for ids in ended.values():
            self.counts.calls -= len(ids)
            self.released += ids
        return [self._decide(subjects, ids) for subjects, ids in calls.items()]

    def _decide(self, subjects: Subjects, ids: Sequence[str]) -> Decision:
        for granted in range(len(ids)):
            if exceeded := self.counts.exceeded(subjects[0].limits):
                return Decision([replace(self.counts)], granted, subjects[0], exceeded)
            self.counts.requests += 1
            self.counts.calls += 1
        return Decision([replace(self.counts)], len(ids))

    async def charge(self, subjects: Sequence[Subject], tokens: float, money: float) -> None:
        self._check()
        self.counts.add(tokens, money)

    def _check(self) -> None:
        if self.is_down:
            raise RedisConnectionError("Redis is down.")


def cost(usage: Mapping[str, float]) -> float:
    return usage.get("prompt_tokens", 0) / 100


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def limiter(store: Any) -> Limiter:
    return Limiter(store, cost, clock=lambda: NOW)


def call(limiter: Limiter, **limits: Any) -> LimitedCall:
    return LimitedCall(limiter, (Subject("key", "acme", "name", Limits(**limits)),))


async def refusal(one: LimitedCall) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        await one.begin()
    return caught.value


async def test_a_call_over_a_limit_is_refused_with_the_time_to_wait(limiter: Limiter) -> None:
    await call(limiter, requests_per_minute=1).begin()
    failure = await refusal(call(limiter, requests_per_minute=1))
    assert (failure.reason, failure.retry_after) == ("RATE_LIMIT_EXCEEDED", 120.0)
    assert failure.metadata == {"limit": "1", "of": "key", "name": "requests_per_minute"}
    assert "1 requests a minute" in failure.message


async def test_tokens_and_their_cost_are_charged(limiter: Limiter, store: FakeStore) -> None:
    one = call(limiter, money_per_day=0.5)
    await one.begin()
    one.charge({"prompt_tokens": 50, "completion_tokens": 7})
    await limiter.close()
    assert (store.counts.tokens, store.counts.day_tokens, store.counts.day_money) == (57, 57, 0.5)
    assert (await refusal(call(limiter, money_per_day=0.5))).reason == "QUOTA_EXCEEDED"


async def test_a_call_counts_until_it_has_ended(limiter: Limiter, store: FakeStore) -> None:
    first, second = call(limiter, concurrent_calls=1), call(limiter, concurrent_calls=1)
    await first.begin()
    assert (await refusal(second)).reason == "TOO_MANY_CALLS"
    first.end()
    second.end()
    first.end()
    third = call(limiter, concurrent_calls=1)
    await third.begin()  # Redis learns at the same time that the first call has ended
    assert store.batches[-1] == [third.id]
    assert store.released == [first.id]


async def test_redis_learns_that_calls_have_ended_if_no_others_begin(
    limiter: Limiter, store: FakeStore
) -> None:
    calls = [call(limiter, concurrent_calls=9) for _ in range(3)]
    await asyncio.gather(*(one.begin() for one in calls))
    for one in calls:
        one.end()
    await limiter.close()
    assert store.released == [one.id for one in calls]
    assert store.batches[1:] == [[]]


async def test_calls_that_arrive_while_redis_counts_share_the_next_batch(
    limiter: Limiter, store: FakeStore
) -> None:
    store.may_answer.clear()
    calls = [call(limiter, requests_per_minute=4) for _ in range(6)]
    tasks = [asyncio.create_task(calls[0].begin())]
    await store.was_asked.wait()
    tasks += [asyncio.create_task(one.begin()) for one in calls[1:]]
    await asyncio.sleep(0)
    store.may_answer.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert store.batches == [[calls[0].id], [one.id for one in calls[1:]]]
    assert [isinstance(one, Overloaded) for one in results] == [False] * 4 + [True] * 2


async def test_a_call_that_is_cancelled_while_it_is_counted_is_released(
    limiter: Limiter, store: FakeStore
) -> None:
    store.may_answer.clear()
    one = call(limiter, concurrent_calls=1)
    task = asyncio.create_task(one.begin())
    await store.was_asked.wait()
    task.cancel()
    await asyncio.wait([task])
    store.may_answer.set()
    await limiter.close()
    assert store.released == [one.id]


async def test_without_redis_the_process_counts_on_alone(
    limiter: Limiter, store: FakeStore
) -> None:
    limits: dict[str, Any] = {"requests_per_minute": 3, "tokens_per_day": 100}
    await call(limiter, **limits).begin()
    store.is_down = True
    one = call(limiter, **limits)
    await one.begin()
    await call(limiter, **limits).begin()
    assert (await refusal(call(limiter, **limits))).metadata["name"] == "requests_per_minute"
    one.charge({"completion_tokens": 100})
    limits["requests_per_minute"] = 100
    assert (await refusal(call(limiter, **limits))).metadata["name"] == "tokens_per_day"
    await limiter.close()


async def test_without_redis_the_calls_in_flight_of_the_process_count(
    limiter: Limiter, store: FakeStore
) -> None:
    store.is_down = True
    one = call(limiter, concurrent_calls=1)
    await one.begin()
    await refusal(call(limiter, concurrent_calls=1))
    one.end()
    await call(limiter, concurrent_calls=1).begin()
    await limiter.close()
