"""Answers chat requests that the cache has served with the language model, too."""

import functools
import time

from services.gateway.cache.shadow import ShadowSampler
from services.gateway.cache.types import Decision
from services.gateway.chat import completions
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.types import ChatRequest
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import completion_text


class ChatShadow:
    """Sends shadow requests of the chat.

    Args:
        cache: stores the new answers.
        sampler: selects the hits and compares the answers.
        language_model: answers the shadow requests.
    """

    def __init__(
        self, cache: FailOpenCache, sampler: ShadowSampler, language_model: LanguageModelClient
    ) -> None:
        self._cache = cache
        self._sampler = sampler
        self._language_model = language_model

    def sample(self, request: ChatRequest, decision: Decision) -> None:
        """Start a shadow request if the hit is sampled."""
        self._sampler.sample(decision.trial, functools.partial(self._answer, request))

    async def _answer(self, request: ChatRequest) -> str:
        """Return the language model's answer, and store it; empty if it is not cacheable."""
        purge_count = await self._cache.purge_count(request.controls.scope)
        if purge_count is None:
            return ""
        body = {**request.body, "stream": False}
        body.pop("stream_options", None)
        started = time.perf_counter()
        completion = await self._language_model.complete(body)
        seconds = time.perf_counter() - started
        if not completions.is_cacheable(completion):
            return ""
        if not request.controls.no_store:
            await self._cache.store(
                request, {"done": completion}, purge_count=purge_count, seconds=seconds
            )
        return completion_text(completion)
