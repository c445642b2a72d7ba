import asyncio
import random
from typing import Any

import pytest

from services.errors import Unavailable
from services.gateway.cache.types import Decision
from services.gateway.chat.cache_key import read_request
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.shadow import MAX_CONCURRENT, ShadowSampler
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.circuit_breaker import CircuitBreaker
from tests.fakes.cache import FakeCache
from tests.fakes.language_model import FakeLanguageModel

TRIAL: Any = object()
HIT = Decision("semantic", trial=TRIAL)


class FakeErrorBudget:
    """Samples a fixed share of the hits, and records what it receives."""

    def __init__(self) -> None:
        self.rate, self.fails = 1.0, False
        self.answers: list[tuple[Any, str, float]] = []
        self.asked = False

    async def shadow_rate(self, trial: Any) -> float:
        self.asked = True
        if self.fails:
            raise Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.")
        return self.rate

    async def record_shadow_answer(self, trial: Any, response: str, weight: float) -> None:
        self.answers.append((trial, response, weight))


class Shadow:
    """A sampler over fakes."""

    def __init__(self) -> None:
        self.cache, self.budget, self.model = FakeCache(), FakeErrorBudget(), FakeLanguageModel()
        cache: Any = self.cache
        budget: Any = self.budget
        fail_open = FailOpenCache(cache, CircuitBreaker(), max_stale=0.0)
        self.sampler = ShadowSampler(fail_open, budget, self.model.client)

    async def settle(self) -> None:
        """Wait for the requests in progress."""
        await asyncio.gather(*self.sampler._tasks)


def request(**controls: Any) -> ChatRequest:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return read_request(body, CacheControls(**controls), max_temperature=1.0)


async def test_a_sampled_hit_is_answered_again_recorded_and_stored() -> None:
    shadow = Shadow()
    shadow.sampler.sample(request(), HIT)
    await shadow.settle()
    [sent] = shadow.model.requests
    assert sent["stream"] is False
    assert "stream_options" not in sent
    assert shadow.budget.answers == [(TRIAL, "An answer.", 1.0)]
    [entry] = shadow.cache.entries.values()
    assert entry.response == "An answer."


async def test_a_share_of_the_hits_is_sampled_and_weighs_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow = Shadow()
    shadow.budget.rate = 0.25
    for draw in (0.24, 0.25, 0.9):
        monkeypatch.setattr(random, "random", lambda draw=draw: draw)
        shadow.sampler.sample(request(), HIT)
        await shadow.settle()
    assert shadow.budget.answers == [(TRIAL, "An answer.", 4.0)]


async def test_a_hit_without_a_trial_is_not_sampled() -> None:
    shadow = Shadow()
    shadow.sampler.sample(request(), Decision("exact"))
    await shadow.settle()
    assert not shadow.budget.asked


async def test_only_so_many_requests_are_under_way_at_once() -> None:
    shadow = Shadow()
    shadow.model.go.clear()
    for _ in range(MAX_CONCURRENT + 3):
        shadow.sampler.sample(request(), HIT)
    await shadow.model.received.wait()
    shadow.model.go.set()
    await shadow.settle()
    assert len(shadow.model.requests) == MAX_CONCURRENT


async def test_an_answer_that_is_not_cacheable_teaches_nothing() -> None:
    shadow = Shadow()
    shadow.model.choice = {"finish_reason": "length"}
    shadow.sampler.sample(request(), HIT)
    await shadow.settle()
    assert shadow.model.requests
    assert not shadow.budget.answers
    assert not shadow.cache.entries


async def test_a_caller_that_stores_nothing_still_teaches() -> None:
    shadow = Shadow()
    shadow.sampler.sample(request(no_store=True), HIT)
    await shadow.settle()
    assert shadow.budget.answers
    assert not shadow.cache.entries


async def test_no_request_is_sent_if_purges_cannot_be_seen() -> None:
    shadow = Shadow()
    shadow.cache.fails = True
    shadow.sampler.sample(request(), HIT)
    await shadow.settle()
    assert not shadow.model.requests


@pytest.mark.parametrize("part", ["budget", "model"])
async def test_a_failure_is_no_failure_of_the_chat(part: str) -> None:
    shadow = Shadow()
    shadow.budget.fails = part == "budget"
    shadow.model.status = 503 if part == "model" else 200
    shadow.sampler.sample(request(), HIT)
    await shadow.settle()
    assert not shadow.budget.answers


async def test_close_cancels_what_is_under_way() -> None:
    shadow = Shadow()
    shadow.model.go.clear()
    shadow.sampler.sample(request(), HIT)
    await shadow.model.received.wait()
    await shadow.sampler.close()
    assert not shadow.budget.answers
