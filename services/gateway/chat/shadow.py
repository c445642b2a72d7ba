"""Shadow requests: a sample of the semantic hits is also answered by the language model.

The comparison of both answers teaches the cache's error budget. No caller waits for the comparison.
"""

import asyncio
import logging
import random
import time

from services import deadlines
from services.errors import Failure
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.types import Decision, Trial
from services.gateway.chat import completions
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.types import ChatRequest
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import completion_text

log = logging.getLogger(__name__)

MAX_CONCURRENT = 4


class ShadowSampler:
    """Sends shadow requests for a share of the hits that an error budget has served.

    Args:
        cache: stores the new answers.
        error_budget: decides the share and learns from the new answers.
        language_model: answers the shadow requests.
    """

    def __init__(
        self,
        cache: FailOpenCache,
        error_budget: ErrorBudgetController,
        language_model: LanguageModelClient,
    ) -> None:
        self._cache = cache
        self._error_budget = error_budget
        self._language_model = language_model
        self._tasks: set[asyncio.Task[None]] = set()

    def sample(self, request: ChatRequest, decision: Decision) -> None:
        """Start a shadow request if the hit is sampled."""
        if decision.trial is None or len(self._tasks) >= MAX_CONCURRENT:
            return
        task = asyncio.create_task(self._sample(request, decision.trial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel the shadow requests in progress."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sample(self, request: ChatRequest, trial: Trial) -> None:
        try:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                rate = await self._error_budget.shadow_rate(trial)
                if random.random() < rate:  # noqa: S311 - a sample, not a secret
                    await self._send(request, trial, 1 / rate)
        except Failure:
            log.warning("a shadow request failed", exc_info=True)

    async def _send(self, request: ChatRequest, trial: Trial, weight: float) -> None:
        """Send a shadow request. Its answer counts for ``weight`` hits."""
        purge_count = await self._cache.purge_count(request.controls.scope)
        if purge_count is None:
            return
        body = {**request.body, "stream": False}
        body.pop("stream_options", None)
        started = time.perf_counter()
        completion = await self._language_model.complete(body)
        seconds = time.perf_counter() - started
        if not completions.is_cacheable(completion):
            return
        answer = completion_text(completion)
        await self._error_budget.record_shadow_answer(trial, answer, weight)
        if not request.controls.no_store:
            await self._cache.store(
                request, {"done": completion}, purge_count=purge_count, seconds=seconds
            )
