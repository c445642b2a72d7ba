"""The counters of limits in a real Redis, which agree with those of a process."""

import asyncio
import itertools
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from services.gateway import redis_store
from services.gateway.auth import limit_store
from services.gateway.auth.counts import LIMITS as LIMITS_IN_ORDER
from services.gateway.auth.counts import Counts
from services.gateway.auth.limit_store import Decision, LimitStore, Subjects, subjects_of
from services.key_file import Key, Limits, sha256

LIMITS = Limits(requests_per_minute=5, tokens_per_minute=100, concurrent_calls=3)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    client = redis_store.connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Any, prefix: str) -> LimitStore:
    return LimitStore(redis, f"{prefix}{uuid.uuid4()}:", hash_tag)


async def hash_tag(tenant: str) -> str:
    return f"{{{tenant}/limits}}"


def subjects(key_limits: Limits = LIMITS, tenant_limits: Limits | None = None) -> Subjects:
    key = Key(sha256("key"), "acme", limits=key_limits)
    return subjects_of(key, tenant_limits or Limits())


async def acquire(store: LimitStore, limits: Subjects, *calls: str) -> Decision:
    [decision] = await store.acquire({limits: calls})
    return decision


async def test_requests_are_counted_for_all_up_to_the_limit(store: LimitStore) -> None:
    limits = subjects(Limits(requests_per_minute=5))
    decisions = await asyncio.gather(*(acquire(store, limits, str(n)) for n in range(8)))
    refused = [decision for decision in decisions if decision.limit == "requests_per_minute"]
    assert len(refused) == 3
    assert refused[0].subject == limits[0]
    last = (await acquire(store, limits, "last")).counts[0]
    assert 0 < last.retry_after("requests_per_minute", limits[0].limits) <= 120


async def test_a_limit_of_the_tenant_counts_all_its_keys(store: LimitStore) -> None:
    tenant = Limits(requests_per_minute=2)
    keys = [Key(sha256(name), "acme", limits=LIMITS) for name in ("one", "two", "three")]
    decisions = [await acquire(store, subjects_of(key, tenant), key.sha256) for key in keys]
    assert [decision.limit for decision in decisions] == ["", "", "requests_per_minute"]
    assert decisions[2].subject
    assert decisions[2].subject.kind == "tenant"
    # The refused call counts for neither.
    assert [counts.requests for counts in decisions[2].counts] == [0, 2]


async def test_tokens_and_money_are_charged_to_the_key_and_the_tenant(store: LimitStore) -> None:
    both = subjects(Limits(tokens_per_day=100), Limits(money_per_day=1.5))
    await store.charge(both, 60, 0.75)
    counts = (await acquire(store, both, "one")).counts
    for one in counts:
        assert (one.day_tokens, one.day_money) == (60, 0.75)
    await store.charge(both, 30, 0.75)
    refused = await acquire(store, both, "two")
    assert (refused.limit, refused.subject) == ("money_per_day", both[1])
    await store.charge(both, 10, 0)
    assert (await acquire(store, both, "three")).limit == "tokens_per_day"


async def test_calls_in_flight_count_until_they_are_released(store: LimitStore) -> None:
    limits = subjects(Limits(concurrent_calls=1))
    assert not (await acquire(store, limits, "one")).limit
    assert (await acquire(store, limits, "two")).limit == "concurrent_calls"
    await store.renew([(limits[0], "one")])
    assert (await acquire(store, limits, "two")).limit == "concurrent_calls"
    [decision] = await store.acquire({limits: ["two"]}, {limits[0]: ["one"]})
    assert not decision.limit


async def test_the_calls_of_a_dead_replica_stop_counting(
    store: LimitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = subjects(Limits(concurrent_calls=1))
    monkeypatch.setattr(limit_store, "LEASE_SECONDS", 0)
    await acquire(store, limits, "one")
    assert not (await acquire(store, limits, "two")).limit


async def test_every_key_expires(store: LimitStore, redis: Any, prefix: str) -> None:
    both = subjects(LIMITS, LIMITS)
    await acquire(store, both, "one")
    await store.charge(both, 1, 1)
    await store.renew([(both[0], "one")])
    names = [name async for name in redis.scan_iter(f"{store._prefix}*")]
    assert len(names) == 4
    for name in names:
        assert 0 < await redis.ttl(name) <= 172_800


async def test_of_many_calls_the_first_ones_are_admitted(store: LimitStore) -> None:
    both = subjects(Limits(requests_per_minute=5), Limits(concurrent_calls=4))
    decision = await acquire(store, both, "a", "b", "c", "d", "e", "f")
    assert (decision.granted, decision.limit) == (4, "concurrent_calls")
    assert decision.subject == both[1]
    assert [counts.requests for counts in decision.counts] == [4, 4]
    other = subjects(Limits(requests_per_minute=100))
    first, second = await store.acquire({both: ["g", "h"], other: ["i"]}, {both[1]: ["a", "d"]})
    assert (first.granted, first.limit) == (1, "requests_per_minute")
    assert second.granted == 1


async def test_redis_decides_as_the_counters_of_a_process(store: LimitStore) -> None:
    draw = random.Random(5)
    for number in range(40):
        names = draw.sample(LIMITS_IN_ORDER, draw.randint(1, 5))
        limits = subjects_of(
            Key(
                sha256(str(number)), "acme", limits=Limits(**{n: draw.randint(0, 6) for n in names})
            ),
            Limits(),
        )
        ids, running = itertools.count(), dict[str, None]()
        counts = Counts()
        for _ in range(6):
            if draw.random() < 0.4:
                usage = draw.randint(0, 2), draw.randint(0, 2)
                await store.charge(limits, *usage)
            calls = [str(next(ids)) for _ in range(draw.randint(1, 4))]
            gone = draw.sample(sorted(running), draw.randint(0, len(running)))
            for one in gone:
                del running[one]
            [decision] = await store.acquire({limits: calls}, {limits[0]: gone} if gone else {})
            counts = replace(decision.counts[0])
            # As the counters were before the calls that were admitted.
            counts.requests -= decision.granted
            counts.calls = len(running) if limits[0].limits.concurrent_calls is not None else 0
            admitted = 0
            while admitted < len(calls) and not (name := counts.exceeded(limits[0].limits)):
                admitted += 1
                counts.requests += 1
                counts.calls += 1
            assert decision.granted == admitted
            assert decision.limit == (name if admitted < len(calls) else "")
            running |= dict.fromkeys(calls[:admitted])


async def test_all_keys_of_a_tenant_are_in_one_slot(store: LimitStore, redis: Any) -> None:
    await acquire(store, subjects(LIMITS, LIMITS), "one")
    names = [name.decode() async for name in redis.scan_iter(f"{store._prefix}*")]
    assert len(names) == 4
    assert {name[name.index("{") : name.index("}") + 1] for name in names} == {"{acme/limits}"}
