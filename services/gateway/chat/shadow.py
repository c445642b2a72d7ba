"""Asks the model again, off the path, what was served from the cache by a budget: was it right?"""

import asyncio
import logging
import random
import time

from services import deadlines
from services.errors import Failure
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.types import Decision, Request, Trial
from services.gateway.chat import completions
from services.gateway.chat.cache_key import Conversation
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import completion_text, token_usage

log = logging.getLogger(__name__)

AT_ONCE = 4


class ShadowSampler:
    """A share of the hits, asked again; their answers are kept, and tell the cache."""

    def __init__(
        self, cache: SemanticCache, evidence: ErrorBudgetController, upstream: LanguageModelClient
    ) -> None:
        self._cache = cache
        self._evidence = evidence
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()

    def consider(self, conversation: Conversation, decision: Decision) -> None:
        """Perhaps ask again what was served; the answer that was served does not wait."""
        if decision.entry is None or decision.trial is None or len(self._tasks) >= AT_ONCE:
            return
        task = asyncio.create_task(self._perhaps_ask(conversation, decision.trial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _perhaps_ask(self, conversation: Conversation, trial: Trial) -> None:
        assert conversation.request is not None  # noqa: S101 - what was served has a key
        try:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                share = (await self._evidence.budget(trial.tenant)).sampling()
                if random.random() < share:  # noqa: S311 - a sample, not a secret
                    await self._ask(conversation, conversation.request, trial, 1 / share)
        except Failure:
            log.warning("a hit was not asked again", exc_info=True)

    async def _ask(
        self, conversation: Conversation, request: Request, trial: Trial, weight: float
    ) -> None:
        purges, started = await self._cache.purges(request.scope), time.perf_counter()
        body = {**conversation.body, "stream": False}
        body.pop("stream_options", None)
        reply = await self._upstream.complete(body)
        if not completions.storable(reply):
            return
        text, seconds = completion_text(reply), time.perf_counter() - started
        await self._evidence.asked_again(trial, text, weight)
        if not conversation.controls.no_store:
            await self._cache.put(
                request,
                text,
                usage=token_usage(reply),
                detail={"completion": reply, "pieces": []},
                purges=purges,
                seconds=seconds,
            )
