"""The semantic cache for the chat: a failure of the cache never fails a chat request.

Each part fails independently. If Redis fails or is slow, the language model answers, and the answer
is not stored. If only the semantic tier fails or is slow, the exact tier still serves and stores.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services import deadlines
from services.errors import Failure, Unavailable
from services.gateway.backends.types import Vectors
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.types import Bound, Decision, NewEntry, Request, Scope
from services.gateway.chat import completions
from services.gateway.chat.types import ChatRequest
from services.gateway.circuit_breaker import CircuitBreaker
from services.gateway.coalescing.singleflight import Item
from services.gateway.digests import digest
from services.gateway.llm.types import completion_text, token_usage

log = logging.getLogger(__name__)

T = TypeVar("T")
EXACT_TIMEOUT = 1.0
SEMANTIC_TIMEOUT = 2.0
STORE_TIMEOUT = 5.0


class FailOpenCache:
    """Looks up and stores completions.

    Args:
        cache: the cache.
        breaker: the circuit breaker of Redis. The embedder and search have their own, in their
            clients.
        max_stale: seconds past its time to live for which an entry is still served.
    """

    def __init__(self, cache: SemanticCache, breaker: CircuitBreaker, *, max_stale: float) -> None:
        self._cache = cache
        self._breaker = breaker
        self._max_stale = max_stale

    async def get(self, request: ChatRequest, *, serve_stale: bool = True) -> Decision:
        """Return the decision of the exact tier; ``bypass`` if Redis fails or is slow."""
        if request.cache_request is None:
            return Decision("bypass", bypass_reason=request.bypass_reason)
        if request.controls.no_cache:
            return Decision("miss", bypass_reason="cache_control")
        cached = request.cache_request
        bound = self._bound(request) if serve_stale else request.controls.bound
        decision = await self._guard(lambda: self._cache.get(cached, bound))
        return (
            _usable(decision) if decision else Decision("bypass", bypass_reason="cache_unavailable")
        )

    async def lookup_semantic(self, request: ChatRequest) -> tuple[Decision, Vectors | None]:
        """Return the decision of the semantic tier, and the vectors of the request if it has them.

        The decision is ``miss`` if the tier fails or is slow. With tools, a similar prompt may ask
        for an action instead of a text: "Cancel my order" and "How do I cancel my order?". So only
        the exact tier answers then.
        """
        assert request.cache_request is not None  # noqa: S101 - without one nothing is looked up
        if request.may_call_tools:
            return Decision("miss", miss_reason="not_exact"), None
        vectors = None
        try:
            with deadlines.limit(_at_most(SEMANTIC_TIMEOUT)):
                # The calls of both services end by the deadline. The timeout is for Redis.
                async with asyncio.timeout(1.25 * SEMANTIC_TIMEOUT):
                    vectors = await self._cache.embed(request.cache_request)
                    decision = await self._cache.lookup_by_vector(
                        request.cache_request, vectors, self._bound(request)
                    )
        except (Failure, TimeoutError):
            log.warning("the semantic tier failed; the exact tier stores the answer", exc_info=True)
            return Decision("miss", miss_reason="unavailable"), vectors
        return _usable(decision), vectors

    async def shared_key(self, request: ChatRequest) -> str | None:
        """Return a name like ``key`` for all replicas, or None if Redis fails or is slow."""
        cached, bound = request.cache_request, request.controls.bound
        assert cached is not None  # noqa: S101 - without one nothing is shared
        return await self._guard(lambda: self._cache.request_key(cached, bound))

    async def purge_count(self, scope: Scope) -> int | None:
        """Return how often a scope has been purged, or None if Redis fails or is slow."""
        return await self._guard(lambda: self._cache.purge_count(scope))

    async def store(
        self,
        request: ChatRequest,
        answer: Item,
        *,
        vectors: Vectors | None = None,
        purge_count: int | None,
        seconds: float,
    ) -> None:
        """Store a completion if it is cacheable. A failure is logged.

        Args:
            request: the request that the completion answers.
            answer: an item with the completion as ``done``, and the ``record`` of its chunks if it
                was streamed.
            vectors: the vectors of the request, if they are known.
            purge_count: the scope's purge count before the completion was requested. A completion
                is not stored if that is unknown, or if the scope has been purged since.
            seconds: how long the language model took.
        """
        cached, completion = request.cache_request, answer.get("done") or {}
        if cached is None or purge_count is None or not completions.is_cacheable(completion):
            return
        entry = NewEntry(
            completion_text(completion),
            usage=token_usage(completion),
            detail={
                "completion": completion,
                "record": answer.get("record") or [],
                "pieces": [],  # gateways of earlier versions expect it
            },
            seconds=seconds,
        )
        try:
            if request.may_call_tools:
                await self._put_exact(cached, entry, purge_count)
            else:
                await self._put(cached, entry, vectors, purge_count)
        except (Failure, TimeoutError):
            log.warning("a completion was not stored in the cache", exc_info=True)

    async def _put(
        self, request: Request, entry: NewEntry, vectors: Vectors | None, purge_count: int
    ) -> None:
        """Store an entry in both tiers, or only in the exact tier if that is not possible."""
        try:
            with deadlines.limit(SEMANTIC_TIMEOUT):
                async with asyncio.timeout(STORE_TIMEOUT):
                    await self._cache.put(request, entry, vectors=vectors, purge_count=purge_count)
        except (Failure, TimeoutError):
            log.warning("storing only in the exact tier", exc_info=True)
            await self._put_exact(request, entry, purge_count)

    async def _put_exact(self, request: Request, entry: NewEntry, purge_count: int) -> None:
        async with asyncio.timeout(STORE_TIMEOUT):
            await self._cache.put_exact(request, entry, purge_count=purge_count)

    def _bound(self, request: ChatRequest) -> Bound:
        return dataclasses.replace(request.controls.bound, max_stale=self._max_stale)

    async def _guard(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Return the result of a call to Redis, or None if Redis fails or is slow."""
        if not self._breaker.allows():
            return None
        try:
            async with asyncio.timeout(EXACT_TIMEOUT):
                result = await call()
        except (Failure, TimeoutError) as error:
            if isinstance(error, Unavailable | TimeoutError):
                self._breaker.record_failure()
            log.warning("cache lookup failed; the request bypasses the cache", exc_info=True)
            return None
        self._breaker.record_success()
        return result


def key(request: ChatRequest) -> str:
    """Return a name that is the same for all requests to this process that one answer serves."""
    cached, bound = request.cache_request, request.controls.bound
    assert cached is not None  # noqa: S101 - without one nothing is shared
    scope = dataclasses.astuple(cached.scope)
    return digest([scope, cached.context.fingerprint, cached.prompt, bound.max_age])


def _usable(decision: Decision) -> Decision:
    """Return the decision, or a miss if a service other than the chat stored its entry."""
    entry = decision.entry
    if entry is None or entry.is_curated or "completion" in entry.detail:
        return decision
    return Decision("miss", miss_reason="empty")


def _at_most(seconds: float) -> float:
    left = deadlines.time_left()
    return seconds if left is None else min(seconds, left)
