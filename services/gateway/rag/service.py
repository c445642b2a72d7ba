"""Answers questions from documents: ``RagService.stream`` answers one, step by step."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.errors import FailedPrecondition, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.types import Context, Decision, NewEntry, Request
from services.gateway.rag import reranking, retrieval
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.ingest.segmentation import Span
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.types import (
    Answer,
    Citation,
    Draft,
    Event,
    Passage,
    Question,
    RefusalDecision,
    Retrieved,
    Timings,
    Writer,
    WriteRequest,
)

log = logging.getLogger(__name__)


@dataclass
class _SearchResult:
    """The hits of one search in the cache and in the documents, and the decision on a refusal."""

    cached: list[Hit]
    chunks: list[list[Hit]]
    refusal: RefusalDecision


class RagService:
    """Retrieves passages, and answers questions from them."""

    def __init__(
        self,
        backends: Backends,
        documents: DocumentStore,
        cache: SemanticCache,
        writer: Writer,
        abstention: Abstention,
    ) -> None:
        self._backends = backends
        self._documents = documents
        self._cache = cache
        self._writer = writer
        self._abstention = abstention
        self._cache_writes: set[asyncio.Task[Any]] = set()

    async def retrieve(self, question: Question) -> tuple[list[Passage], RefusalDecision, Timings]:
        """Return the best passages for a question, and whether the question would be refused."""
        question.validate()
        timings = Timings()
        with timings.stage("embed"):
            vectors = await self._backends.embedder.embed_queries([question.text])
        with timings.stage("search"):
            result = await self._search(question, vectors)
        passages = await self._rank(question, result.chunks, timings)
        return passages, result.refusal, timings.finished()

    async def ask(self, question: Question) -> Answer:
        """Answer a question from the cache or from documents."""
        async for event in self.stream(question):
            if isinstance(event, Answer):
                return event
        raise AssertionError("the last event of a stream is an Answer")

    async def stream(self, question: Question, *, streamed: bool = False) -> AsyncIterator[Event]:
        """Yield the events of an answer; with ``streamed`` the text comes in pieces."""
        question.validate()
        timings = Timings()
        request = await self._cache_request(question)
        with timings.stage("cache"):
            decision = await self._get_cached(request, question)
        if not decision.entry:
            with timings.stage("embed"):
                vectors = await self._backends.embedder.embed_queries([question.text])
            with timings.stage("search"):
                cache_query = await self._cache_query(request, question, vectors)
                result = await self._search(question, vectors, cache_query)
            with timings.stage("cache"):
                decision = await self._choose_cached(request, question, result.cached, vectors)
        if decision.entry:
            yield decision.entry.response
            yield _cached_answer(decision, timings)
            return
        passages = await self._rank(question, result.chunks, timings)
        if result.refusal.refused or not passages:
            yield Answer("", [], passages, decision, timings.finished(), refusal=result.refusal)
            return
        yield Retrieved(passages)
        with timings.stage("generate"):
            async for piece in self._writer.write(_write_request(question, streamed), passages):
                if isinstance(piece, str):
                    yield piece
                else:
                    draft = piece
        answer = _written_answer(draft, decision, timings)
        if draft.complete and not question.no_store:
            self._put_in_background(request, vectors, answer)
        yield answer

    async def settle(self) -> None:
        """Wait for the cache writes in the background."""
        if self._cache_writes:
            await asyncio.wait(self._cache_writes)

    async def _cache_request(self, question: Question) -> Request:
        """Return the cache request of a question; a change of any of its collections changes it."""
        epochs = await self._documents.epochs(question.collections)
        parameters = {
            "collections": json.dumps(dict(zip(question.collections, epochs, strict=True))),
            "filter": question.filter_key.hex(),
            "limit": str(question.limit),
            "diversity": str(question.diversity),
            "rerank": str(question.rerank),
            "prompt_tokens": str(question.max_prompt_tokens),
        }
        context = Context(
            model=f"rag:{question.model}", parameters=parameters, history=question.history
        )
        return Request(question.scope, context, question.text)

    async def _get_cached(self, request: Request, question: Question) -> Decision:
        """Look a question up in the cache's exact tier."""
        if question.no_cache:
            return Decision("miss")
        return await self._cache.get(request, question.bound)

    async def _cache_query(
        self, request: Request, question: Question, vectors: Vectors
    ) -> Query | None:
        """Return the query of the cache's semantic tier, to be searched with the documents."""
        if question.no_cache:
            return None
        return await self._cache.semantic_query(request, vectors, question.bound)

    async def _choose_cached(
        self, request: Request, question: Question, hits: list[Hit], vectors: Vectors
    ) -> Decision:
        """Choose an answer from the hits of the cache's semantic tier."""
        if question.no_cache:
            return Decision("miss")
        return await self._cache.choose(request, hits, question.bound, vectors)

    async def _search(
        self, question: Question, vectors: Vectors, cache_query: Query | None = None
    ) -> _SearchResult:
        """Search the cache's semantic tier and the documents in one call; decide on a refusal."""
        (cached, chunks), calibrations = await asyncio.gather(
            self._search_all(question, vectors, cache_query),
            self._abstention.calibrations(question.collections, vectors.digest),
        )
        return _SearchResult(cached, chunks, self._abstention.decide(chunks, calibrations))

    async def _search_all(
        self, question: Question, vectors: Vectors, cache_query: Query | None
    ) -> tuple[list[Hit], list[list[Hit]]]:
        """Return the hits of the cache's query, and the chunks that match in each collection."""
        queries = retrieval.build_queries(
            question.collections,
            question.text if question.hybrid else "",
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
        except NotFound:  # usually the cache has no collection for this model yet
            if cache_query is None:
                raise
            return await self._search_all(question, vectors, None)
        except FailedPrecondition as failure:
            if failure.reason != "TEXT_NOT_INDEXED":
                raise
            return await self._search_all(replace(question, hybrid=False), vectors, cache_query)
        return cached, chunks

    async def _rank(
        self, question: Question, hits: list[list[Hit]], timings: Timings
    ) -> list[Passage]:
        """Return the best passages, reranked by a cross-encoder if the question asks for it."""
        with timings.stage("rank"):
            ranked: Iterable[Passage] = retrieval.rank(hits)
        if question.rerank:
            with timings.stage("rerank"):
                ranked = await reranking.rerank(
                    self._backends.embedder, question.text, ranked, question.limit
                )
        with timings.stage("rank"):
            return retrieval.select(ranked, question.limit, question.diversity)

    def _put_in_background(self, request: Request, vectors: Vectors, answer: Answer) -> None:
        detail = {
            "citations": [asdict(citation) for citation in answer.citations],
            "passages": [asdict(passage) for passage in answer.passages],
            "model": answer.model,
            "unsupported": [asdict(span) for span in answer.unsupported],
        }
        cites = sorted({f"documents/{citation.document}" for citation in answer.citations})
        task = asyncio.create_task(
            self._cache.put(
                request,
                NewEntry(answer.text, cites=cites, usage=answer.usage, detail=detail),
                vectors=vectors,
            )
        )
        self._cache_writes.add(task)
        task.add_done_callback(self._finish_put)

    def _finish_put(self, task: asyncio.Task[Any]) -> None:
        self._cache_writes.discard(task)
        if not task.cancelled() and task.exception():
            log.warning("an answer could not be cached", exc_info=task.exception())


def _write_request(question: Question, streamed: bool) -> WriteRequest:
    return WriteRequest(
        question.text, question.history, question.model, question.max_prompt_tokens, streamed
    )


def _cached_answer(decision: Decision, timings: Timings) -> Answer:
    entry = decision.entry
    assert entry is not None  # noqa: S101 - the caller has checked
    return Answer(
        entry.response,
        [Citation(**citation) for citation in entry.detail["citations"]],
        [Passage(**passage) for passage in entry.detail["passages"]],
        decision,
        timings.finished(),
        model=entry.detail["model"],
        unsupported=[Span(**span) for span in entry.detail["unsupported"]],
    )


def _written_answer(draft: Draft, decision: Decision, timings: Timings) -> Answer:
    return Answer(
        draft.text,
        draft.citations,
        draft.passages,
        decision,
        timings.finished(),
        model=draft.model,
        usage=draft.usage,
        unsupported=draft.unsupported,
        dropped=draft.dropped,
    )
