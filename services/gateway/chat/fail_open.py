"""The semantic cache as the chat uses it: its failures never fail a chat request.

If the cache fails or is slow, the language model answers and the answer is not stored.
"""

import asyncio
import dataclasses
import logging

from services.errors import Failure
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.types import Decision, NewEntry, Scope
from services.gateway.chat import completions
from services.gateway.chat.types import ChatRequest
from services.gateway.coalescing.circuit_breaker import CircuitBreaker
from services.gateway.llm.types import Json, completion_text, token_usage

log = logging.getLogger(__name__)

LOOKUP_TIMEOUT = 2.0


class FailOpenCache:
    """Looks up and stores completions.

    Args:
        cache: the cache.
        max_stale: seconds past its time to live for which an entry is still served.
    """

    def __init__(self, cache: SemanticCache, *, max_stale: float) -> None:
        self._cache = cache
        self._max_stale = max_stale
        self._breaker = CircuitBreaker()

    async def lookup(self, request: ChatRequest) -> Decision:
        """Return the decision of both tiers; ``bypass`` if the cache fails or is slow."""
        wanted, controls = request.cache_request, request.controls
        if wanted is None or not self._breaker.allows():
            return Decision("bypass")
        if controls.no_cache:
            return Decision("miss")
        bound = dataclasses.replace(controls.bound, max_stale=self._max_stale)
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                decision = await self._cache.lookup(wanted, "exact_then_semantic", bound)
        except (Failure, TimeoutError):
            self._breaker.record_failure()
            log.warning("cache lookup failed; the request bypasses the cache", exc_info=True)
            return Decision("bypass")
        self._breaker.record_success()
        return _usable(decision) or Decision("miss", miss_reason="empty")

    async def lookup_exact(self, request: ChatRequest) -> Decision:
        """Return the decision of the exact tier; ``miss`` if the cache fails."""
        if request.cache_request is None:
            return Decision("miss")
        try:
            decision = await self._cache.get(request.cache_request, request.controls.bound)
        except Failure:
            return Decision("miss")
        return _usable(decision) or Decision("miss")

    async def key(self, request: ChatRequest) -> str:
        """Return a name that is the same for all requests that one answer serves."""
        assert request.cache_request is not None  # noqa: S101 - without one nothing is shared
        return await self._cache.request_key(request.cache_request, request.controls.bound)

    async def purge_count(self, scope: Scope) -> int | None:
        """Return how often a scope has been purged, or None if the cache fails."""
        try:
            return await self._cache.purge_count(scope)
        except Failure:
            return None

    async def store(
        self,
        request: ChatRequest,
        completion: Json,
        pieces: list[str],
        *,
        purge_count: int | None,
        seconds: float,
    ) -> None:
        """Store a completion, if it is cacheable; a failure is logged.

        Args:
            request: what the completion answers.
            completion: the completion.
            pieces: the texts of the chunks in which the completion was streamed, if it was.
            purge_count: the scope's purge count before the completion was requested. A completion
                is not stored if that is unknown, or if the scope has been purged since.
            seconds: how long the language model took.
        """
        if (
            request.cache_request is None
            or purge_count is None
            or not completions.is_cacheable(completion)
        ):
            return
        try:
            await self._cache.put(
                request.cache_request,
                NewEntry(
                    completion_text(completion),
                    usage=token_usage(completion),
                    detail={"completion": completion, "pieces": pieces},
                    seconds=seconds,
                ),
                purge_count=purge_count,
            )
        except Failure:
            log.warning("a completion was not stored in the cache", exc_info=True)


def _usable(decision: Decision) -> Decision | None:
    """Return the decision, unless a service other than the chat stored its entry."""
    has_completion = decision.entry is None or "completion" in decision.entry.detail
    return decision if has_completion else None
