"""Shadow requests: a sample of the semantic hits is also answered without the cache.

The comparison of both answers teaches the cache's error budget. No caller waits for the comparison.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from services import deadlines
from services.errors import Failure
from services.gateway.auth.caller import uncharged
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.types import Trial

log = logging.getLogger(__name__)

MAX_CONCURRENT = 4


class ShadowSampler:
    """Sends shadow requests for a share of the hits that an error budget has served.

    Args:
        error_budget: decides the share and learns from the new answers.
    """

    def __init__(self, error_budget: ErrorBudgetController) -> None:
        self._error_budget = error_budget
        self._tasks: set[asyncio.Task[None]] = set()

    def sample(self, trial: Trial | None, answer: Callable[[], Awaitable[str]]) -> None:
        """Start a shadow request if a hit is sampled.

        Args:
            trial: what the error budget will learn from the hit; None if it cannot learn from it.
            answer: returns a new answer, or an empty text if none can be compared.
        """
        if trial is None or len(self._tasks) >= MAX_CONCURRENT:
            return
        task = asyncio.create_task(self._sample(trial, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel the shadow requests in progress."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sample(self, trial: Trial, answer: Callable[[], Awaitable[str]]) -> None:
        try:
            with deadlines.limit(deadlines.LONG_DEADLINE), uncharged():
                rate = await self._error_budget.shadow_rate(trial)
                # Each shadow request stands for 1 / rate hits.
                if random.random() < rate and (text := await answer()):  # noqa: S311 - a sample
                    await self._error_budget.record_shadow_answer(trial, text, 1 / rate)
        except Failure:
            log.warning("a shadow request failed", exc_info=True)
