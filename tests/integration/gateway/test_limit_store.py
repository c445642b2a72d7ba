"""The counters of limits in a real Redis, which agree with those of a process."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.gateway import redis_store
from services.gateway.auth import limit_store
from services.gateway.auth.limit_store import LimitStore, Subject, subjects_of
from services.key_file import Key, Limits, sha256

LIMITS = Limits(requests_per_minute=5, tokens_per_minute=100, concurrent_calls=3)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    client = redis_store.connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Any, prefix: str) -> LimitStore:
    return LimitStore(redis, f"{prefix}{uuid.uuid4()}:")


def subjects(key_limits: Limits = LIMITS, tenant_limits: Limits | None = None) -> list[Subject]:
    key = Key(sha256("key"), "acme", limits=key_limits)
    return subjects_of(key, tenant_limits or Limits())


async def test_requests_are_counted_for_all_up_to_the_limit(store: LimitStore) -> None:
    limits = subjects(Limits(requests_per_minute=5))
    decisions = await asyncio.gather(*(store.acquire(limits, str(n)) for n in range(8)))
    refused = [decision for decision in decisions if decision.limit == "requests_per_minute"]
    assert len(refused) == 3
    assert refused[0].subject == limits[0]
    last = (await store.acquire(limits, "last")).counts[0]
    assert 0 < last.retry_after("requests_per_minute", limits[0].limits) <= 120


async def test_a_limit_of_the_tenant_counts_all_its_keys(store: LimitStore) -> None:
    tenant = Limits(requests_per_minute=2)
    keys = [Key(sha256(name), "acme", limits=LIMITS) for name in ("one", "two", "three")]
    decisions = [await store.acquire(subjects_of(key, tenant), key.sha256) for key in keys]
    assert [decision.limit for decision in decisions] == ["", "", "requests_per_minute"]
    assert decisions[2].subject
    assert decisions[2].subject.kind == "tenant"
    # The refused call counts for neither.
    assert [counts.requests for counts in decisions[2].counts] == [0, 2]


async def test_tokens_and_money_are_charged_to_the_key_and_the_tenant(store: LimitStore) -> None:
    both = subjects(Limits(tokens_per_day=100), Limits(money_per_day=1.5))
    await store.charge(both, 60, 0.75)
    counts = (await store.acquire(both, "one")).counts
    for one in counts:
        assert (one.day_tokens, one.day_money) == (60, 0.75)
    await store.charge(both, 30, 0.75)
    refused = await store.acquire(both, "two")
    assert (refused.limit, refused.subject) == ("money_per_day", both[1])
    await store.charge(both, 10, 0)
    assert (await store.acquire(both, "three")).limit == "tokens_per_day"


async def test_calls_in_flight_count_until_they_are_released(store: LimitStore) -> None:
    limits = subjects(Limits(concurrent_calls=1))
    assert not (await store.acquire(limits, "one")).limit
    assert (await store.acquire(limits, "two")).limit == "concurrent_calls"
    await store.renew([(limits[0], "one")])
    assert (await store.acquire(limits, "two")).limit == "concurrent_calls"
    await store.release(limits, "one")
    assert not (await store.acquire(limits, "two")).limit


async def test_the_calls_of_a_dead_replica_stop_counting(
    store: LimitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = subjects(Limits(concurrent_calls=1))
    monkeypatch.setattr(limit_store, "LEASE_SECONDS", 0)
    await store.acquire(limits, "one")
    assert not (await store.acquire(limits, "two")).limit


async def test_every_key_expires(store: LimitStore, redis: Any, prefix: str) -> None:
    both = subjects(LIMITS, LIMITS)
    await store.acquire(both, "one")
    await store.charge(both, 1, 1)
    await store.renew([(both[0], "one")])
    names = [name async for name in redis.scan_iter(f"{store._prefix}*")]
    assert len(names) == 4
    for name in names:
        assert 0 < await redis.ttl(name) <= 172_800


def test_all_keys_of_a_tenant_are_in_one_slot() -> None:
    names = [subject.name for subject in subjects(LIMITS, LIMITS)]
    assert len({name[name.index("{") : name.index("}")] for name in names}) == 1
