import asyncio
from typing import Any

import pytest

from services.errors import Unavailable
from services.gateway.cache.types import Decision, NewEntry, Scope
from services.gateway.chat import fail_open
from services.gateway.chat.cache_key import read_request
from services.gateway.chat.fail_open import FailOpenCache, key
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.circuit_breaker import FAILURE_THRESHOLD, CircuitBreaker
from tests.fakes.cache import FakeCache, entry

COMPLETION = {
    "choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1},
}


RECORD = ["Hel", "lo."]


def request(**controls: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}
    return read_request(body, CacheControls(**controls), max_temperature=1.0)


@pytest.fixture
def inner() -> FakeCache:
    return FakeCache()


@pytest.fixture
def cache(inner: FakeCache) -> FailOpenCache:
    semantic: Any = inner
    return FailOpenCache(semantic, CircuitBreaker(), max_stale=60.0)


async def store(cache: FailOpenCache, purge_count: int | None = 0, **options: Any) -> None:
    answer = {"done": COMPLETION, "record": RECORD}
    await cache.store(request(), answer, purge_count=purge_count, seconds=2.0, **options)


async def test_a_stored_completion_is_found(cache: FailOpenCache) -> None:
    assert (await cache.get(request())).kind == "miss"
    await store(cache)
    decision = await cache.get(request())
    assert decision.kind == "exact"
    assert decision.entry is not None
    assert decision.entry.response == "Hello."
    assert decision.entry.usage == {"prompt_tokens": 1}
    assert decision.entry.seconds == 2.0
    assert decision.entry.detail == {
        "completion": COMPLETION,
        "record": RECORD,
        "pieces": [],
    }


async def test_stale_entries_are_served_unless_they_are_to_be_replaced(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    await cache.get(request())
    await cache.get(request(), serve_stale=False)
    assert [bound.max_stale for bound in inner.bounds] == [60.0, 0.0]


async def test_a_caller_who_wants_a_new_answer_looks_nothing_up(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    assert (await cache.get(request(no_cache=True))).kind == "miss"
    assert (await cache.get(request(no_cache=True, no_store=True))).kind == "bypass"
    assert inner.lookups == 0


async def test_an_entry_of_another_service_is_a_miss(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    cached = request().cache_request
    assert cached is not None
    foreign = entry("key", NewEntry("Hello."), cached)
    inner.next_decision = Decision("exact", foreign)
    assert (await cache.get(request())).miss_reason == "empty"
    inner.next_semantic = Decision("semantic", foreign)
    assert (await cache.lookup_semantic(request()))[0].miss_reason == "empty"


async def test_a_failure_of_redis_bypasses_the_cache_until_the_breaker_opens(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    inner.fails = True
    for _ in range(FAILURE_THRESHOLD + 2):
        assert (await cache.get(request())).kind == "bypass"
    assert inner.lookups == FAILURE_THRESHOLD
    assert await cache.purge_count(Scope()) is None


async def test_a_silent_redis_bypasses_the_cache(
    cache: FailOpenCache, inner: FakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*words: Any) -> Decision:
        await asyncio.Event().wait()
        return Decision("miss")

    monkeypatch.setattr(fail_open, "EXACT_TIMEOUT", 0.01)
    monkeypatch.setattr(inner, "get", hang)
    assert (await cache.get(request())).kind == "bypass"


async def test_a_success_closes_the_breaker(cache: FailOpenCache, inner: FakeCache) -> None:
    for _ in range(3):
        inner.fails = True
        for _ in range(FAILURE_THRESHOLD - 1):
            await cache.get(request())
        inner.fails = False
        assert (await cache.get(request())).kind == "miss"


async def test_a_slow_semantic_tier_is_a_miss_and_the_exact_tier_still_serves(
    cache: FailOpenCache, inner: FakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fail_open, "SEMANTIC_TIMEOUT", 0.01)
    inner.hangs = True
    for _ in range(FAILURE_THRESHOLD + 1):
        decision, vectors = await cache.lookup_semantic(request())
        assert (decision.kind, decision.miss_reason, vectors) == ("miss", "unavailable", None)
    await store(cache)
    assert (await cache.get(request())).kind == "exact"


async def test_a_failed_semantic_tier_is_a_miss_and_the_exact_tier_still_serves(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    inner.semantic_fails = True
    for _ in range(FAILURE_THRESHOLD + 1):
        assert (await cache.lookup_semantic(request()))[0].miss_reason == "unavailable"
    await store(cache)
    assert (await cache.get(request())).kind == "exact"


async def test_a_lookup_returns_the_vectors_for_storing(
    cache: FailOpenCache, inner: FakeCache
) -> None:
    decision, vectors = await cache.lookup_semantic(request())
    assert (decision.kind, decision.miss_reason) == ("miss", "not_similar")
    assert vectors is not None
    await store(cache, vectors=vectors)
    assert inner.vectors == [vectors]


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
    await cache.store(bypassing, {"done": COMPLETION}, purge_count=0, seconds=0.0)
    await cache.store(request(), {}, purge_count=0, seconds=0.0)
    assert not inner.entries


async def test_equal_requests_have_the_same_key(cache: FailOpenCache, inner: FakeCache) -> None:
    assert key(request()) == key(request()) != key(request(scope=Scope("acme")))
    shared = await cache.shared_key(request())
    assert shared
    assert shared == await cache.shared_key(request())
    assert shared != await cache.shared_key(request(scope=Scope("acme")))


async def test_a_broken_redis_is_not_asked_for_a_shared_key(
    cache: FailOpenCache, inner: FakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def fail(*words: Any) -> str:
        asked.append(words)
        raise Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.")

    monkeypatch.setattr(inner, "request_key", fail)
    for _ in range(FAILURE_THRESHOLD + 2):
        assert await cache.shared_key(request()) is None
    assert len(asked) == FAILURE_THRESHOLD


@pytest.mark.parametrize(
    ("choice", "embeds"), [({}, 0), ({"tool_choice": "auto"}, 0), ({"tool_choice": "none"}, 2)]
)
async def test_while_a_tool_may_be_called_only_equal_prompts_share_an_answer(
    cache: FailOpenCache, inner: FakeCache, choice: Any, embeds: int
) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = request().body | {"tools": tools} | choice
    asked = read_request(body, CacheControls(), max_temperature=1.0)
    decision, _ = await cache.lookup_semantic(asked)
    assert decision.miss_reason == ("not_similar" if embeds else "not_exact")
    await cache.store(asked, {"done": COMPLETION}, purge_count=0, seconds=2.0)
    assert (await cache.get(asked)).kind == "exact"
    assert inner.embeds + len(inner.vectors) == embeds
