"""Answers questions from documents: ``RagService.stream`` answers one, step by step."""

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

from services.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.cache.shadow import ShadowSampler
from services.gateway.cache.types import Decision, Request
from services.gateway.coalescing.singleflight import Item, Singleflight
from services.gateway.rag import answer_items, reranking, retrieval
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.answer_cache import AnswerCache
from services.gateway.rag.stepwise import stepwise
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import (
    Answer,
    Event,
    Passage,
    Question,
    RefusalDecision,
    Retrieved,
    Writer,
)
from services.gateway.rag.writing import write_request, write_whole, written_answer
from services.gateway.tenants import Tenants

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class _Search:
    """The outcome of one search of the cache and the documents.

    Attributes:
        vectors: the question's vectors.
        cached: hits of the cache's semantic tier.
        chunks: hits in each collection of documents.
        refusal: whether to refuse the question.
    """

    vectors: retrieval.QuestionVectors
    cached: list[Hit]
    chunks: list[list[Hit]]
    refusal: RefusalDecision


class RagService:
    """Retrieves passages, and answers questions from them.

    Args:
        backends: the embedder and search.
        cache: looks up and stores answers.
        writer: writes answers that the cache does not have.
        abstention: decides which questions are refused.
        singleflight: lets concurrent equal questions share one answer.
        tenants: finds the owner of the collections.
        shadow_sampler: checks a sample of the hits.
    """

    def __init__(  # noqa: PLR0913 - wired once
        self,
        backends: Backends,
        cache: AnswerCache,
        writer: Writer,
        abstention: Abstention,
        singleflight: Singleflight,
        *,
        tenants: Tenants,
        shadow_sampler: ShadowSampler,
    ) -> None:
        self._backends = backends
        self._cache = cache
        self._writer = writer
        self._abstention = abstention
        self._singleflight = singleflight
        self._tenants = tenants
        self._shadow_sampler = shadow_sampler

    async def close(self) -> None:
        """Cancel the answers in progress."""
        await self._singleflight.close()

    async def retrieve(self, question: Question) -> tuple[list[Passage], RefusalDecision, Timings]:
        """Return the best passages for a question, and whether the question would be refused."""
        question.validate()
        question = replace(question, tenant=await self._tenants.current(question.collections))
        timings = Timings()
        found = await self._search(question, None, timings)
        passages = await self._rank(question, found.chunks, timings)
        return passages, found.refusal, timings.finished()

    async def ask(self, question: Question) -> Answer:
        """Answer a question from the cache or from documents."""
        async for event in self.stream(question):
            if isinstance(event, Answer):
                return event
        raise AssertionError("the last event of a stream is an Answer")

    async def stream(self, question: Question, *, streamed: bool = False) -> AsyncIterator[Event]:
        """Yield the events of an answer; with ``streamed`` the text comes in pieces."""
        question.validate()
        question = replace(question, tenant=await self._tenants.current(question.collections))
        timings = Timings()
        author = self._writer.author(question.model)
        request = await self._cache.request(question, author, self._abstention.min_score)
        with timings.stage("cache"):
            decision = await self._cache.get(request, question)
        if decision.entry:
            self._cache.record(question, request, decision, timings.elapsed)
            yield decision.entry.response
            yield answer_items.cached_answer(decision, timings.finished())
            return
        is_recorded = False
        async for item in self._items(question, request, streamed):
            if "decision" in item:
                decision = answer_items.read_decision(item)
                if not is_recorded:
                    self._cache.record(question, request, decision, timings.elapsed)
                is_recorded = True
            elif "passages" in item:
                yield Retrieved(answer_items.read_passages(item))
            elif "delta" in item:
                yield item["delta"]
            elif decision.entry:
                yield decision.entry.response
                yield answer_items.cached_answer(decision, timings.finished())
            else:
                yield answer_items.read_answer(item, decision, timings)

    async def _items(
        self, question: Question, request: Request, streamed: bool
    ) -> AsyncIterator[Item]:
        """Yield the items of an answer, which concurrent equal questions share.

        If the leader is lost, a caller that was sent nothing follows the next leader. An answer
        that is not stored is not shared, and ends when its caller leaves.
        """
        if question.no_store:
            async for item in self._answer(question, request, streamed, None):
                yield item
            return
        purge_count = await self._cache.purge_count(question.scope)
        name = secrets.token_hex(8)
        if not question.no_cache:
            name = await self._cache.shared_name(request, question, purge_count)
        for attempt in range(MAX_ATTEMPTS):
            is_sent = False
            call = self._singleflight.do(
                name,
                lambda: self._answer(question, request, streamed, purge_count),
                across_replicas=not question.no_cache,
                outlives_callers=purge_count is not None,
            )
            try:
                async with contextlib.aclosing(call.follow()) as items:
                    async for item in items:
                        is_sent = is_sent or (streamed and "decision" not in item)
                        yield item
            except Aborted:
                if is_sent or attempt == MAX_ATTEMPTS - 1:
                    raise
            else:
                return

    async def _answer(
        self, question: Question, request: Request, streamed: bool, purge_count: int | None
    ) -> AsyncGenerator[Item]:
        """Answer a question that the exact tier did not have before, and store the answer."""
        timings = Timings()
        with timings.stage("cache"):  # an earlier leader may just have stored the answer
            decision = await self._cache.get(request, question)
        if not decision.entry:
            found = await self._search(question, request, timings)
            with timings.stage("cache"):
                decision = await self._cache.choose(
                    request, question, found.cached, found.vectors.in_context
                )
            again = functools.partial(self._answer_again, question, request, found)
            self._shadow_sampler.sample(decision.trial, again)
        yield answer_items.write_decision(decision)
        if decision.entry:
            yield {"done": {}}
            return
        passages = await self._rank(question, found.chunks, timings)
        if found.refusal.refused or not passages:
            refusal = Answer("", [], passages, decision, timings, refusal=found.refusal)
            yield answer_items.write_answer(refusal)
            return
        yield answer_items.write_passages(passages)
        write = write_request(question, found.vectors, streamed=streamed)
        with timings.stage("generate"):
            async for piece in self._writer.write(write, passages):
                if isinstance(piece, str):
                    yield {"delta": piece}
                else:
                    draft = piece
        answer = written_answer(draft, decision, found.refusal, timings)
        yield answer_items.write_answer(answer)
        if draft.complete and not question.no_store:
            await self._cache.put(request, answer, found.vectors.in_context, purge_count)

    async def _answer_again(self, question: Question, request: Request, found: _Search) -> str:
        """Return a new answer to a question that the cache has answered, and store it.

        It is empty if there is no whole answer.
        """
        purge_count, timings = await self._cache.purge_count(question.scope), Timings()
        passages = await self._rank(question, found.chunks, timings)
        if purge_count is None or found.refusal.refused or not passages:
            return ""
        with timings.stage("generate"):
            write = write_request(question, found.vectors, streamed=False)
            draft = await write_whole(self._writer, write, passages)
        if not draft.complete:
            return ""
        if not question.no_store:
            answer = written_answer(draft, Decision("miss"), found.refusal, timings)
            await self._cache.put(request, answer, found.vectors.in_context, purge_count)
        return draft.text

    async def _search(
        self, question: Question, request: Request | None, timings: Timings
    ) -> _Search:
        """Search the documents, and with a ``request`` also the cache; decide on a refusal."""
        with timings.stage("embed"):
            vectors = await retrieval.embed_question(self._backends.embedder, question)
        with timings.stage("search"):
            cache_query = None
            if request is not None:
                cache_query = await self._cache.semantic_query(
                    request, question, vectors.in_context
                )
            (cached, chunks), calibrations = await asyncio.gather(
                self._search_all(question, vectors.search, cache_query),
                self._abstention.calibrations(question.document_collections, vectors.search.digest),
            )
        refusal = await self._abstention.decide(
            list(dict.fromkeys([question.text, question.text_in_context])),
            vectors.search.rows[0],
            chunks,
            calibrations,
        )
        if not vectors.in_context.readable:
            refusal = replace(refusal, refused=True, readable=False)
        return _Search(vectors, cached, chunks, refusal)

    async def _search_all(
        self, question: Question, vectors: Vectors, cache_query: Query | None
    ) -> tuple[list[Hit], list[list[Hit]]]:
        """Return the hits of the cache's query, and the chunks that match in each collection."""
        queries = retrieval.build_queries(
            question.document_collections,
            question.text_in_context if question.hybrid else "",
            vectors,
            reranking.depth(question.limit) if question.rerank else question.limit,
            filter=question.filter,
            with_vector=question.diversity > 0,
        )
        try:
            if cache_query is None:
                return [], await self._backends.search.search(queries, vectors.digest)
            cached, *chunks = await self._backends.search.search(
                [cache_query, *queries], vectors.digest
            )
        except (NotFound, FailedPrecondition, InvalidArgument) as failure:
            if failure.reason == "TEXT_NOT_INDEXED" and question.hybrid:
                by_vector = replace(question, hybrid=False)
                return await self._search_all(by_vector, vectors, cache_query)
            if cache_query is None:
                raise
            # Usually, the cache has no collection for this model yet.
            return await self._search_all(question, vectors, None)
        return cached, chunks

    async def _rank(
        self, question: Question, hits: list[list[Hit]], timings: Timings
    ) -> list[Passage]:
        """Return the best passages, reranked by a cross-encoder if the question asks for it."""
        ranked = retrieval.rank(hits)
        if question.rerank:
            with timings.stage("rerank"):
                reranked = await reranking.rerank(
                    self._backends.embedder, question.text_in_context, ranked, question.limit
                )
            ranked = stepwise(reranked, len(reranked))
        with timings.stage("rank"):
            return await retrieval.select(ranked, question.limit, question.diversity)
