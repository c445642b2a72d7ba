"""Chat completions through the cache; ``ChatService.complete`` reads from top to bottom."""

import asyncio
import contextlib
import functools
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from services.errors import Aborted
from services.gateway.backends.types import Vectors
from services.gateway.cache.types import Decision
from services.gateway.cache.usage import UsageRecorder
from services.gateway.chat.answer import ChatAnswer, done, replayed
from services.gateway.chat.cache_key import read_request
from services.gateway.chat.fail_open import FailOpenCache, key
from services.gateway.chat.shadow import ChatShadow
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.coalescing.singleflight import Item, Singleflight
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import Json

MAX_ATTEMPTS = 3
# Reading a conversation with more messages takes milliseconds, and so does joining more chunks.
MAX_SHORT = 200
MAX_SHORT_STREAM = 1000
Generate = Callable[[ChatRequest, Vectors | None], AsyncIterator[Item]]


class ChatService:
    """Answers chat requests from the cache or with the language model.

    The exact tier comes first. The requests that it does not answer share their work: concurrent
    equal requests of a process share the lookup in the semantic tier, and those of all replicas
    share the call to the language model.

    Args:
        cache: looks up and stores completions.
        usage: records every lookup.
        language_model: answers the requests that the cache does not answer.
        singleflight: lets concurrent equal requests share work.
        shadow: checks a sample of the hits.
        max_temperature: requests with a higher sampling temperature bypass the cache.
    """

    def __init__(  # noqa: PLR0913 - wired once
        self,
        cache: FailOpenCache,
        usage: UsageRecorder,
        language_model: LanguageModelClient,
        singleflight: Singleflight,
        shadow: ChatShadow,
        *,
        max_temperature: float,
    ) -> None:
        self._cache = cache
        self._usage = usage
        self._language_model = language_model
        self._singleflight = singleflight
        self._shadow = shadow
        self._max_temperature = max_temperature

    async def complete(self, body: Json, controls: CacheControls) -> ChatAnswer:
        """Look a request up, and start to answer it.

        Args:
            body: the request in the format of OpenAI's API.
            controls: how the caller wants the cache to be used.

        Raises:
            FailedPrecondition: no language model is configured.
            InvalidArgument: the request has no messages.
        """
        self._language_model.check()
        body = {**body, "model": self._language_model.model(body.get("model") or "")}
        request = await self._read(body, controls)
        started = time.perf_counter()
        decision = await self._cache.get(request)
        if decision.entry:
            items = self._from_entry(request, decision)
        elif request.cache_request is None:
            items = self._generate(request)
        else:
            items = self._answer(request, decision)
            decision = (await anext(items))["decision"]
        seconds = time.perf_counter() - started
        logged = None if controls.no_store else request.cache_request
        self._usage.record(controls.scope, decision, seconds, logged)
        return ChatAnswer(request, decision, items)

    async def _read(self, body: Json, controls: CacheControls) -> ChatRequest:
        """Read a request, in a thread if the conversation is long, so that other calls can run."""
        messages = body.get("messages")
        if not isinstance(messages, list) or len(messages) <= MAX_SHORT:
            return read_request(body, controls, max_temperature=self._max_temperature)

        def read() -> ChatRequest:
            request = read_request(body, controls, max_temperature=self._max_temperature)
            if request.cache_request:
                _ = request.cache_request.context.fingerprint  # which is remembered
            return request

        return await asyncio.to_thread(read)

    async def close(self) -> None:
        """Cancel the calls in progress."""
        await self._singleflight.close()

    async def _answer(self, request: ChatRequest, exact: Decision) -> AsyncGenerator[Item]:
        """Answer a request that the exact tier does not answer. The first item has the decision."""
        if request.controls.no_store:  # nobody shares this call, so it ends when its caller leaves
            async for item in self._lookup_and_generate(request, exact, self._generate):
                yield item
        elif request.controls.no_cache:  # this call is stored even if its caller leaves
            yield {"decision": exact}
            purge_count = await self._cache.purge_count(request.controls.scope)
            call = self._singleflight.do(
                secrets.token_hex(8),
                lambda: self._generate_and_store(request, None, purge_count),
                across_replicas=False,
                outlives_callers=purge_count is not None,
            )
            async with contextlib.aclosing(call.follow()) as items:
                async for item in items:
                    yield item
        else:
            async for item in self._share(request, exact):
                yield item

    async def _share(self, request: ChatRequest, exact: Decision) -> AsyncGenerator[Item]:
        """Follow the call that concurrent equal requests share.

        If the leader is lost, a caller that has received nothing follows the next leader.
        """
        bound = request.controls.bound
        # The decision of the semantic tier depends on the bound. The text of a new answer does not.
        name = f"lookup:{key(request)}:{bound.min_similarity}:{bound.max_error_rate}"
        work = functools.partial(
            self._lookup_and_generate, request, exact, self._share_across_replicas
        )
        is_decided = is_sent = False
        for attempt in range(MAX_ATTEMPTS):
            call = self._singleflight.do(name, work, outlives_callers=False)
            try:
                async with contextlib.aclosing(call.follow()) as items:
                    async for item in items:
                        if "decision" in item and is_decided:
                            continue
                        if not request.is_streamed and item.get("done") == {}:
                            yield {"done": await self._language_model.complete(request.body)}
                            return
                        is_decided = is_decided or "decision" in item
                        is_sent = is_sent or (request.is_streamed and "chunk" in item)
                        yield item
            except Aborted:
                if is_sent or attempt == MAX_ATTEMPTS - 1:
                    raise
            else:
                return

    async def _lookup_and_generate(
        self, request: ChatRequest, exact: Decision, generate: Generate
    ) -> AsyncGenerator[Item]:
        """Answer from the semantic tier, or with ``generate``."""
        decision, vectors = exact, None
        if exact.kind == "bypass":  # without Redis there are no entries and no other replicas
            generate = self._generate
        else:
            decision, vectors = await self._cache.lookup_semantic(request)
        yield {"decision": decision}
        items = (
            self._from_entry(request, decision) if decision.entry else generate(request, vectors)
        )
        async for item in items:
            yield item

    async def _share_across_replicas(
        self, request: ChatRequest, vectors: Vectors | None
    ) -> AsyncGenerator[Item]:
        """Follow a call that outlives its callers if its answer can be stored."""
        purge_count = await self._cache.purge_count(request.controls.scope)
        can_store = purge_count is not None
        shared_key = await self._cache.shared_key(request) if can_store else None
        call = self._singleflight.do(
            shared_key or key(request),
            lambda: self._lead(request, vectors, purge_count),
            across_replicas=shared_key is not None,
            outlives_callers=can_store,
        )
        async with contextlib.aclosing(call.follow()) as items:
            async for item in items:
                yield item

    async def _refresh(self, request: ChatRequest) -> AsyncGenerator[Item]:
        """Replace a stale entry."""
        purge_count = await self._cache.purge_count(request.controls.scope)
        async for item in self._lead(request, None, purge_count):
            yield item

    async def _lead(
        self, request: ChatRequest, vectors: Vectors | None, purge_count: int | None
    ) -> AsyncGenerator[Item]:
        """Answer for all followers. An earlier leader may just have stored the answer."""
        decision = await self._cache.get(request, serve_stale=False)
        if decision.entry:
            yield replayed(request, decision.entry)
            return
        async for item in self._generate_and_store(request, vectors, purge_count):
            yield item

    async def _generate_and_store(
        self, request: ChatRequest, vectors: Vectors | None, purge_count: int | None
    ) -> AsyncGenerator[Item]:
        """Call the language model, then store its answer unless the scope has been purged since."""
        last: Item = {}
        started, seconds = time.perf_counter(), 0.0
        async for item in self._generate(request):
            yield item
            last = item if "done" in item else last
            seconds = time.perf_counter() - started
        await self._cache.store(
            request, last, vectors=vectors, purge_count=purge_count, seconds=seconds
        )

    async def _generate(
        self, request: ChatRequest, _vectors: Vectors | None = None
    ) -> AsyncGenerator[Item]:
        """Call the language model."""
        headers: dict[str, str] = {}
        if not request.is_streamed:
            completion = await self._language_model.complete(request.body, headers.update)
            yield {"done": completion, "headers": headers}
            return
        chunks: list[Json] = []
        body = request.body
        if request.cache_request:  # followers and later callers may need the usage
            options = {**(body.get("stream_options") or {}), "include_usage": True}
            body = {**body, "stream_options": options}
        async for chunk in self._language_model.stream(body, headers.update):
            yield {"chunk": chunk} if chunks else {"chunk": chunk, "headers": headers}
            chunks.append(chunk)
        if len(chunks) <= MAX_SHORT_STREAM:
            yield done(chunks)
        else:
            yield await asyncio.to_thread(done, chunks)

    async def _from_entry(self, request: ChatRequest, decision: Decision) -> AsyncGenerator[Item]:
        """Answer from the entry of a decision, and replace or check the entry in the background."""
        entry = decision.entry
        assert entry is not None  # noqa: S101 - the callers have checked
        if entry.is_stale and not request.controls.no_store:
            # One of the replicas replaces the entry. Nobody waits for it.
            self._singleflight.do(f"refresh:{entry.id}", lambda: self._refresh(request))
        else:
            self._shadow.sample(request, decision)
        yield replayed(request, entry)
