"""Chat completions through the cache; ``ChatService.complete`` reads from top to bottom."""

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.errors import Aborted
from services.gateway.cache.types import Decision, Entry
from services.gateway.cache.usage import UsageRecorder
from services.gateway.chat import completions
from services.gateway.chat.cache_key import read_request
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.shadow import ShadowSampler
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.coalescing.singleflight import Item, Singleflight
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import Json, completion_text, delta_text

MAX_ATTEMPTS = 3


@dataclass
class ChatAnswer:
    """An answer in progress.

    Attributes:
        request: the request to answer.
        decision: what the cache decided.
        items: the parts of the answer: any number of ``{"chunk": …}``, then ``{"done": …,
            "pieces": […]}`` with the completion and the texts of its chunks. The completion of a
            stream that is more than text is ``{}``.
    """

    request: ChatRequest
    decision: Decision
    items: AsyncIterator[Item]

    async def completion(self) -> Json:
        """Return the whole completion."""
        async for item in self.items:
            if "done" in item:
                completion: Json = item["done"]
                return completion
        raise AssertionError("items end with done, or raise")

    async def chunks(self) -> AsyncIterator[Json]:
        """Yield the completion as the chunks of a stream."""
        include_usage, is_streamed = self.request.includes_usage, False
        async for item in self.items:
            if "chunk" in item:
                is_streamed = True
                if include_usage or item["chunk"].get("choices"):
                    yield item["chunk"]
            elif not is_streamed and item["done"]:
                completion = item["done"]
                pieces = item.get("pieces") or [completion_text(completion)]
                for chunk in completions.replay(completion, pieces, include_usage=include_usage):
                    yield chunk


class ChatService:
    """Answers chat requests from the cache or with the language model.

    Args:
        cache: looks up and stores completions.
        usage: records every lookup.
        language_model: answers the requests that the cache does not.
        singleflight: lets concurrent equal requests share one call to the language model.
        shadow_sampler: checks a sample of the hits.
        max_temperature: sampling temperature above which a request bypasses the cache.
    """

    def __init__(  # noqa: PLR0913 - wired once
        self,
        cache: FailOpenCache,
        usage: UsageRecorder,
        language_model: LanguageModelClient,
        singleflight: Singleflight,
        shadow_sampler: ShadowSampler,
        *,
        max_temperature: float,
    ) -> None:
        self._cache = cache
        self._usage = usage
        self._language_model = language_model
        self._singleflight = singleflight
        self._shadow_sampler = shadow_sampler
        self._max_temperature = max_temperature

    async def complete(self, body: Json, controls: CacheControls) -> ChatAnswer:
        """Look a request up, and start to answer it.

        Args:
            body: the request as OpenAI's API has it.
            controls: how the caller wants the cache to be used.

        Raises:
            FailedPrecondition: no language model is configured.
            InvalidArgument: the request has no messages.
        """
        self._language_model.check()
        body = {**body, "model": self._language_model.model(str(body.get("model") or ""))}
        request = read_request(body, controls, max_temperature=self._max_temperature)
        started = time.perf_counter()
        decision = await self._cache.lookup(request)
        self._usage.record(controls.scope, decision, time.perf_counter() - started)
        return ChatAnswer(request, decision, self._items(request, decision))

    def _items(self, request: ChatRequest, decision: Decision) -> AsyncIterator[Item]:
        """Return the items of an answer, from the cache or from the language model."""
        controls = request.controls
        if decision.entry:
            if decision.entry.is_stale and not controls.no_store:
                self._refresh(request, decision.entry)
            else:
                self._shadow_sampler.sample(request, decision)
            return _from_entry(decision.entry)
        if decision.kind == "bypass" or controls.no_store:
            return self._generate(request)
        if controls.no_cache:  # a separate call, stored even if its caller leaves
            name = secrets.token_hex(8)
            return self._singleflight.do(name, lambda: self._generate_and_store(request)).follow()
        return self._share(request)

    def _refresh(self, request: ChatRequest, entry: Entry) -> None:
        """Replace a stale entry in the background, on one of the replicas."""
        self._singleflight.do(f"refresh:{entry.id}", lambda: self._lead(request))

    async def close(self) -> None:
        """Cancel the calls in progress."""
        await self._singleflight.close()

    async def _share(self, request: ChatRequest) -> AsyncIterator[Item]:
        """Follow the one call that concurrent equal requests share.

        If the leader is lost, a caller that has received nothing follows the next leader.
        """
        name = await self._cache.key(request)
        for attempt in range(MAX_ATTEMPTS):
            sent = False
            call = self._singleflight.do(name, lambda: self._lead(request))
            try:
                async for item in call.follow():
                    if not request.is_streamed and item.get("done") == {}:
                        yield {"done": await self._language_model.complete(request.body)}
                        return
                    sent = sent or (request.is_streamed and "chunk" in item)
                    if request.is_streamed or "done" in item:
                        yield item
            except Aborted:
                if sent or attempt == MAX_ATTEMPTS - 1:
                    raise
            else:
                return

    async def _lead(self, request: ChatRequest) -> AsyncIterator[Item]:
        """Answer for all followers, unless an earlier leader has already stored the answer."""
        decision = await self._cache.lookup_exact(request)
        items = _from_entry(decision.entry) if decision.entry else self._generate_and_store(request)
        async for item in items:
            yield item

    async def _generate_and_store(self, request: ChatRequest) -> AsyncIterator[Item]:
        """Call the language model, then store its answer."""
        done: Item = {}
        purge_count = await self._cache.purge_count(request.controls.scope)
        started, seconds = time.perf_counter(), 0.0
        async for item in self._generate(request):
            yield item
            done = item if "done" in item else done
            seconds = time.perf_counter() - started
        await self._cache.store(
            request,
            done.get("done") or {},
            done.get("pieces") or [],
            purge_count=purge_count,
            seconds=seconds,
        )

    async def _generate(self, request: ChatRequest) -> AsyncIterator[Item]:
        """Call the language model."""
        if not request.is_streamed:
            yield {"done": await self._language_model.complete(request.body)}
            return
        chunks: list[Json] = []
        body = request.body
        if request.cache_request:  # followers and later callers may need the usage
            body = {**body, "stream_options": {"include_usage": True}}
        async for chunk in self._language_model.stream(body):
            chunks.append(chunk)
            yield {"chunk": chunk}
        pieces = [piece for piece in map(delta_text, chunks) if piece]
        yield {"done": completions.join(chunks) or {}, "pieces": pieces}


async def _from_entry(entry: Entry) -> AsyncIterator[Item]:
    yield {"done": entry.detail["completion"], "pieces": entry.detail["pieces"]}
