"""Chat completions through the cache: the story reads top to bottom in ``open``.

The cache is never in the way: if Redis, search or the embedder is away the model answers, and what
could not be kept is not kept.
"""

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.errors import Aborted, Failure
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.types import Decision, Entry
from services.gateway.cache.usage import UsageRecorder
from services.gateway.chat import completions
from services.gateway.chat.cache_key import Controls, Conversation, read
from services.gateway.chat.shadow import ShadowSampler
from services.gateway.coalescing.circuit_breaker import CircuitBreaker
from services.gateway.coalescing.singleflight import Item, Singleflight
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import Json, completion_text, delta_text, token_usage

log = logging.getLogger(__name__)

LOOKUP_SECONDS = 2.0
AGAIN = 3


@dataclass
class Answering:
    """An answer on its way: what the cache said, and the items that make it up."""

    conversation: Conversation
    decision: Decision
    items: AsyncIterator[Item]

    async def whole(self) -> Json:
        """Return the whole reply."""
        async for item in self.items:
            if "done" in item:
                done: Json = item["done"]
                return done
        raise AssertionError("items end with done, or raise")

    async def chunks(self) -> AsyncIterator[Json]:
        """Yield the reply as the chunks of a stream."""
        asked, streamed = self.conversation.with_usage, False
        async for item in self.items:
            if "chunk" in item:
                streamed = True
                if asked or item["chunk"].get("choices"):
                    yield item["chunk"]
            elif not streamed and item["done"]:
                reply = item["done"]
                pieces = item.get("pieces") or [completion_text(reply)]
                for chunk in completions.replay(reply, pieces, with_usage=asked):
                    yield chunk


@dataclass(frozen=True)
class Bounds:
    """What is cached, and how long it is served.

    Attributes:
        hottest: temperature of sampling above which nothing is cached.
        stale: seconds past its end for which an answer is served while another is made.
    """

    hottest: float
    stale: float


class ChatService:
    """RagService conversations."""

    def __init__(  # noqa: PLR0913 - wired once
        self,
        cache: SemanticCache,
        usage: UsageRecorder,
        upstream: LanguageModelClient,
        flights: Singleflight,
        *,
        samples: ShadowSampler,
        bounds: Bounds,
    ) -> None:
        self._cache = cache
        self._usage = usage
        self._upstream = upstream
        self._singleflight = flights
        self._samples = samples
        self._bounds = bounds
        self._breaker = CircuitBreaker()

    async def open(self, body: Json, controls: Controls) -> Answering:
        """Begin to answer a request as OpenAI's API has it.

        Raises:
            FailedPrecondition: no language model is set.
            InvalidArgument: the request has no messages.
            Refused: the language model's server refuses.
        """
        self._upstream.check()
        body = {**body, "model": self._upstream.model(str(body.get("model") or ""))}
        conversation = read(body, controls, hottest=self._bounds.hottest)
        started = time.perf_counter()
        decision = await self._look(conversation)
        self._usage.record(controls.scope, decision, time.perf_counter() - started)
        return Answering(conversation, decision, self._items(conversation, decision))

    def _items(self, conversation: Conversation, decision: Decision) -> AsyncIterator[Item]:
        """Return the items of an answer from where it is to come."""
        controls = conversation.controls
        if decision.kind == "bypass":
            return self._ask(conversation)
        if decision.entry:
            if decision.entry.is_stale and not controls.no_store:
                self._refresh(conversation, decision.entry)
            else:
                self._samples.consider(conversation, decision)
            return _kept(decision)
        if controls.no_store:
            return self._ask(conversation)
        if controls.no_cache:  # a call of its own, which is kept even if its caller leaves
            return self._singleflight.do(
                secrets.token_hex(8), lambda: self._make(conversation)
            ).follow()
        return self._share(conversation)

    def _refresh(self, conversation: Conversation, entry: Entry) -> None:
        """Make a stale answer anew off the path: one of all replicas does."""
        self._singleflight.do(f"refresh:{entry.id}", lambda: self._lead(conversation))

    async def close(self) -> None:
        """Stop what is under way."""
        await self._singleflight.close()

    async def _look(self, conversation: Conversation) -> Decision:
        """Ask the cache; if it fails or is slow, do without."""
        request, controls = conversation.request, conversation.controls
        if request is None or not self._breaker.allows():
            return Decision("bypass")
        if controls.no_cache:
            return Decision("miss")
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                bound = dataclasses.replace(controls.bound, stale=self._bounds.stale)
                decision = await self._cache.lookup(request, "exact_then_semantic", bound)
        except (Failure, TimeoutError):
            self._breaker.record_failure()
            log.warning("the cache was not asked", exc_info=True)
            return Decision("bypass")
        self._breaker.record_success()
        usable = decision.entry is None or "completion" in decision.entry.detail
        return decision if usable else Decision("miss", miss_reason="empty")

    async def _share(self, conversation: Conversation) -> AsyncIterator[Item]:
        """Follow the one call that all make who ask the same now.

        Who was sent nothing goes on with another leader if the first is lost.
        """
        request = conversation.request
        assert request is not None  # noqa: S101 - what has no key is not shared
        name = await self._cache.key(request, conversation.controls.bound)
        for attempt in range(AGAIN):
            sent = False
            call = self._singleflight.do(name, lambda: self._lead(conversation))
            try:
                async for item in call.follow():
                    if not conversation.streams and item.get("done") == {}:
                        yield {"done": await self._upstream.complete(conversation.body)}
                        return
                    sent = sent or (conversation.streams and "chunk" in item)
                    if conversation.streams or "done" in item:
                        yield item
            except Aborted:
                if sent or attempt == AGAIN - 1:
                    raise
            else:
                return

    async def _lead(self, conversation: Conversation) -> AsyncIterator[Item]:
        """Answer for all; the one before may just have ended, so look once more."""
        request = conversation.request
        assert request is not None  # noqa: S101 - what has no key is not shared
        try:
            decision = await self._cache.get(request, conversation.controls.bound)
        except Failure:
            decision = Decision("miss")
        if decision.entry and "completion" in decision.entry.detail:
            async for item in _kept(decision):
                yield item
            return
        async for item in self._make(conversation):
            yield item

    async def _make(self, conversation: Conversation) -> AsyncIterator[Item]:
        """Ask the model, then keep the answer if it is whole and plain."""
        done: Item = {}
        purges, started = await self._purges(conversation), time.perf_counter()
        async for item in self._ask(conversation):
            yield item
            done = item if "done" in item else done
            took = time.perf_counter() - started
        if done.get("done") and purges is not None:
            await self._keep(conversation, {**done, "seconds": took}, purges)

    async def _purges(self, conversation: Conversation) -> int | None:
        """Return how often the scope was purged, or None if nobody can say."""
        try:
            return await self._cache.purges(conversation.controls.scope)
        except Failure:
            return None

    async def _ask(self, conversation: Conversation) -> AsyncIterator[Item]:
        """Ask the model; the last item is ``done``: the reply, or {} if that is more than text."""
        if not conversation.streams:
            yield {"done": await self._upstream.complete(conversation.body)}
            return
        chunks: list[Json] = []
        body = conversation.body
        if conversation.request:  # others who wait for this answer may want its usage
            body = {**body, "stream_options": {"include_usage": True}}
        async for chunk in self._upstream.stream(body):
            chunks.append(chunk)
            yield {"chunk": chunk}
        pieces = [part for part in map(delta_text, chunks) if part]
        yield {"done": completions.join(chunks) or {}, "pieces": pieces}

    async def _keep(self, conversation: Conversation, done: Item, purges: int) -> None:
        request, reply = conversation.request, done["done"]
        if request is None or not completions.storable(reply):
            return
        detail = {"completion": reply, "pieces": done.get("pieces") or []}
        try:
            await self._cache.put(
                request,
                completion_text(reply),
                usage=token_usage(reply),
                detail=detail,
                purges=purges,
                seconds=done["seconds"],
            )
        except Failure:
            log.warning("an answer was not kept", exc_info=True)


async def _kept(decision: Decision) -> AsyncIterator[Item]:
    entry = decision.entry
    assert entry is not None  # noqa: S101 - the caller has just asked
    yield {"done": entry.detail["completion"], "pieces": entry.detail["pieces"]}
