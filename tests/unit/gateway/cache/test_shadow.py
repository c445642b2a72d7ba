import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.errors import Unavailable
from services.gateway.cache.shadow import MAX_CONCURRENT, ShadowSampler
from tests.fakes.error_budget import FakeErrorBudget

TRIAL: Any = object()


class Shadow:
    """A sampler over a fake error budget."""

    def __init__(self) -> None:
        self.budget = FakeErrorBudget()
        budget: Any = self.budget
        self.sampler = ShadowSampler(budget)

    async def sample(self, answer: Callable[[], Awaitable[str]], trial: Any = TRIAL) -> None:
        """Offer a hit, and wait for the requests in progress."""
        self.sampler.sample(trial, answer)
        await asyncio.gather(*self.sampler._tasks)


async def usual() -> str:
    return "An answer."


async def test_a_share_of_the_hits_is_sampled_and_weighs_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow = Shadow()
    shadow.budget.rate = 0.25
    for draw in (0.24, 0.25, 0.9):
        monkeypatch.setattr(random, "random", lambda draw=draw: draw)
        await shadow.sample(usual)
    assert shadow.budget.answers == [(TRIAL, "An answer.", 4.0)]


async def test_a_hit_without_a_trial_is_not_sampled() -> None:
    shadow = Shadow()
    await shadow.sample(usual, None)
    assert not shadow.budget.asked


async def test_only_so_many_requests_are_under_way_at_once() -> None:
    shadow, go = Shadow(), asyncio.Event()
    asked = []

    async def wait() -> str:
        asked.append(1)
        await go.wait()
        return "An answer."

    for _ in range(MAX_CONCURRENT + 3):
        shadow.sampler.sample(TRIAL, wait)
    go.set()
    await asyncio.gather(*shadow.sampler._tasks)
    assert len(asked) == MAX_CONCURRENT == len(shadow.budget.answers)


async def test_a_request_without_an_answer_teaches_nothing() -> None:
    async def nothing() -> str:
        return ""

    shadow = Shadow()
    await shadow.sample(nothing)
    assert shadow.budget.asked
    assert not shadow.budget.answers


@pytest.mark.parametrize("part", ["budget", "answer"])
async def test_a_failure_is_no_failure_of_the_caller(part: str) -> None:
    async def answer() -> str:
        if part == "answer":
            raise Unavailable("LANGUAGE_MODEL_UNAVAILABLE", "It does not answer.")
        return "An answer."

    shadow = Shadow()
    shadow.budget.fails = part == "budget"
    await shadow.sample(answer)
    assert not shadow.budget.answers


async def test_close_cancels_what_is_under_way() -> None:
    shadow, begun = Shadow(), asyncio.Event()

    async def hang() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "An answer."

    shadow.sampler.sample(TRIAL, hang)
    await begun.wait()
    await shadow.sampler.close()
    assert not shadow.budget.answers
