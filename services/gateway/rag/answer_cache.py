"""The semantic cache of answers; if it fails or is slow, documents answer the question."""

import asyncio
import json
import logging

from services.errors import Failure
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.types import Context, Decision, NewEntry, Request, Scope
from services.gateway.cache.usage import UsageRecorder
from services.gateway.rag.answer_items import write_detail
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.types import Answer, Question

log = logging.getLogger(__name__)

EXACT_TIMEOUT = 0.5  # seconds


class AnswerCache:
    """Looks up and stores answers.

    Args:
        cache: the cache.
        documents: the epochs of its collections are part of every key.
        usage: records lookups.
    """

    def __init__(
        self, cache: SemanticCache, documents: DocumentStore, usage: UsageRecorder
    ) -> None:
        self._cache = cache
        self._documents = documents
        self._usage = usage

    async def request(self, question: Question, author: str, min_score: float) -> Request:
        """Return a question's cache request, which contains everything that the answer depends on.

        Args:
            question: the question.
            author: names the writer of the answer and its settings.
            min_score: minimum cosine similarity for an answer, without a calibration.
        """
        epochs = await self._documents.epochs(question.document_collections)
        # The default tenant's names stay as earlier versions stored them.
        names = map(question.tenant.collection_name, question.collections)
        parameters = {
            "collections": json.dumps(dict(zip(names, epochs, strict=True))),
            "filter": question.filter_key.hex(),
            "limit": str(question.limit),
            "diversity": str(question.diversity),
            "rerank": str(question.rerank),
            "prompt_tokens": str(question.max_prompt_tokens),
            "min_score": str(min_score),
        }
        if question.grounding != "off":  # earlier versions stored answers without grounding
            parameters["grounding"] = question.grounding
        context = Context(model=f"rag:{author}", parameters=parameters, history=question.history)
        return Request(question.scope, context, question.text)

    async def get(self, request: Request, question: Question) -> Decision:
        """Look a question up in the exact tier, which needs no embedder."""
        if question.no_cache:
            kind = "bypass" if question.no_store else "miss"
            return Decision(kind, bypass_reason="cache_control")
        try:
            async with asyncio.timeout(EXACT_TIMEOUT):
                return _usable(await self._cache.get(request, question.bound))
        except (Failure, TimeoutError):
            log.warning("the exact tier failed; documents answer the question", exc_info=True)
            return Decision("miss", miss_reason="unavailable")

    async def semantic_query(
        self, request: Request, question: Question, vectors: Vectors
    ) -> Query | None:
        """Return the semantic tier's query, which is searched together with the documents."""
        if question.no_cache:
            return None
        return await self._cache.semantic_query(request, vectors, question.bound)

    async def choose(
        self, request: Request, question: Question, hits: list[Hit], vectors: Vectors
    ) -> Decision:
        """Decide on the hits of ``semantic_query``."""
        if question.no_cache:
            kind = "bypass" if question.no_store else "miss"
            return Decision(kind, bypass_reason="cache_control")
        try:
            return _usable(await self._cache.choose(request, hits, question.bound, vectors))
        except Failure:
            log.warning("the semantic tier failed; documents answer the question", exc_info=True)
            return Decision("miss", miss_reason="unavailable")

    async def shared_name(
        self, request: Request, question: Question, purge_count: int | None
    ) -> str:
        """Return a name that is equal for concurrent questions that one answer may serve."""
        bound = question.bound
        key = await self._cache.request_key(request, bound)
        return f"ask:{key}:{bound.min_similarity}:{bound.max_error_rate}:{purge_count}"

    async def purge_count(self, scope: Scope) -> int | None:
        """Return how often a scope has been purged, or None if the cache fails."""
        try:
            return await self._cache.purge_count(scope)
        except Failure:
            return None

    async def put(
        self, request: Request, answer: Answer, vectors: Vectors, purge_count: int | None
    ) -> None:
        """Store an answer; a failure is logged.

        Args:
            request: the question's cache request.
            answer: the answer.
            vectors: the vector of the request's ``embedding_text``.
            purge_count: the scope's purge count before the answer was written. An answer is not
                stored if that is unknown, or if the scope has been purged since.
        """
        if purge_count is None:
            return
        entry = NewEntry(
            answer.text,
            cites=sorted({f"documents/{citation.document}" for citation in answer.citations}),
            usage=answer.usage,
            detail=write_detail(answer),
            seconds=answer.timings.generate,
        )
        try:
            await self._cache.put(request, entry, vectors=vectors, purge_count=purge_count)
        except Failure:
            log.warning("an answer could not be cached", exc_info=True)

    def record(
        self, question: Question, request: Request, decision: Decision, seconds: float
    ) -> None:
        """Count the lookup of a question in the cache's statistics."""
        logged = None if question.no_store else request
        self._usage.record(question.scope, decision, seconds, logged)


def _usable(decision: Decision) -> Decision:
    """Return the decision, or a miss if its entry was stored by another service."""
    if decision.entry and "citations" not in decision.entry.detail:
        return Decision("miss", miss_reason="empty")
    return decision
