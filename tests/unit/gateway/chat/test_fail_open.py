from typing import Any

import pytest

from services.gateway.cache.types import Decision, NewEntry, Scope
from services.gateway.chat import fail_open
from services.gateway.chat.cache_key import read_request
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.coalescing.circuit_breaker import FAILURE_THRESHOLD
from tests.fakes.cache import FakeCache, entry

COMPLETION = {
    "choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1},
}


def request(**controls: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}
    return read_request(body, CacheControls(**controls), max_temperature=1.0)


@pytest.fixture
def inner() -> FakeCache:
    return FakeCache()


@pytest.fixture
def cache(inner: FakeCache) -> FailOpenCache:
    semantic: Any = inner
    return FailOpenCache(semantic, max_stale=60.0)


async def store(cache: FailOpenCache, purge_count: int | None = 0) -> None:
    await cache.store(request(), COMPLETION, ["Hel", "lo."], purge_count=purge_count, seconds=2.0)


async def test_a_stored_completion_is_found_by_both_lookups(cache: FailOpenCache) -> None:
    assert (await cache.lookup(request())).kind == "miss"
    await store(cache)
    for lookup in (cache.lookup, cache.lookup_exact):
        decision = await lookup(request())
        assert decision.kind == "exact"
        assert decision.entry is not None
        assert decision.entry.response == "Hello."
        assert decision.entry.usage == {"prompt_tokens": 1}
        assert decision.entry.seconds == 2.0
        assert decision.entry.detail == {"completion": COMPLETION, "pieces": ["Hel", "lo."]}


async def test_a_lookup_serves_stale_entries(cache: FailOpenCache, inner: FakeCache) -> None:
    await cache.lookup(request())
    assert 60.0 in vars(inner.bounds[0]).values()


async def test_a_caller_who_wants_a_new_answer_looks_nothing_up(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    assert (await cache.lookup(request(no_cache=True))).kind == "miss"
    assert (await cache.lookup(request(no_cache=True, no_store=True))).kind == "bypass"
    assert inner.lookups == 0


async def test_an_entry_of_another_service_is_a_miss(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    cached = request().cache_request
    assert cached is not None
    inner.next_decision = Decision("exact", entry("key", NewEntry("Hello."), cached))
    assert (await cache.lookup(request())).miss_reason == "empty"


async def test_a_failure_bypasses_the_cache_until_the_breaker_opens(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    inner.fails = True
    for _ in range(FAILURE_THRESHOLD + 2):
        assert (await cache.lookup(request())).kind == "bypass"
    assert inner.lookups == FAILURE_THRESHOLD
    assert (await cache.lookup_exact(request())).kind == "miss"


async def test_a_slow_lookup_bypasses_the_cache(
    cache: FailOpenCache, inner: FakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fail_open, "LOOKUP_TIMEOUT", 0.01)
    inner.hangs = True
    assert (await cache.lookup(request())).kind == "bypass"


async def test_a_success_closes_the_breaker(cache: FailOpenCache, inner: FakeCache) -> None:
    for _ in range(3):
        inner.fails = True
        for _ in range(FAILURE_THRESHOLD - 1):
            await cache.lookup(request())
        inner.fails = False
        assert (await cache.lookup(request())).kind == "miss"


async def test_a_failure_to_store_is_no_failure(cache: FailOpenCache, inner: FakeCache) -> None:
    inner.fails = True
    assert await cache.purge_count(Scope()) is None
    await store(cache)
    assert not inner.entries


async def test_nothing_is_stored_after_a_purge(cache: FailOpenCache, inner: FakeCache) -> None:
    purge_count = await cache.purge_count(Scope())
    inner.purge_counts[Scope()] = 1
    await store(cache, purge_count)
    await store(cache, None)
    assert not inner.entries


async def test_only_cacheable_completions_of_cacheable_requests_are_stored(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    bypassing = request(no_cache=True, no_store=True)
    await cache.store(bypassing, COMPLETION, [], purge_count=0, seconds=0.0)
    await cache.store(request(), {}, [], purge_count=0, seconds=0.0)
    assert not inner.entries


async def test_equal_requests_have_the_same_key(cache: FailOpenCache) -> None:
    assert await cache.key(request()) == await cache.key(request())
    assert await cache.key(request()) != await cache.key(request(scope=Scope("acme")))
