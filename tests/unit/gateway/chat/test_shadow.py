import asyncio
from typing import Any

from services.gateway.cache.shadow import ShadowSampler
from services.gateway.cache.types import Decision
from services.gateway.chat.cache_key import read_request
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.shadow import ChatShadow
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.circuit_breaker import CircuitBreaker
from tests.fakes.cache import FakeCache
from tests.fakes.error_budget import FakeErrorBudget
from tests.fakes.language_model import FakeLanguageModel

TRIAL: Any = object()
HIT = Decision("semantic", trial=TRIAL)


class Shadow:
    """A sampler over fakes."""

    def __init__(self) -> None:
        self.cache, self.budget, self.model = FakeCache(), FakeErrorBudget(), FakeLanguageModel()
        cache: Any = self.cache
        budget: Any = self.budget
        fail_open = FailOpenCache(cache, CircuitBreaker(), max_stale=0.0)
        self._common = ShadowSampler(budget)
        self.sampler = ChatShadow(fail_open, self._common, self.model.client)

    async def settle(self) -> None:
        """Wait for the requests in progress."""
        await asyncio.gather(*self._common._tasks)


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


async def test_a_model_that_fails_teaches_nothing() -> None:
    shadow = Shadow()
    shadow.model.status = 503
    shadow.sampler.sample(request(), HIT)
    await shadow.settle()
    assert not shadow.budget.answers
