"""RagService questions from documents: the story of a question reads top to bottom in ``ask``."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from services.errors import FailedPrecondition, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.types import Context, Decision, Request
from services.gateway.rag import reranking, retrieval
from services.gateway.rag.abstention import Abstention, Verdict
from services.gateway.rag.ingest.segmentation import Span
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.retrieval import Passage
from services.gateway.rag.types import Citation, Draft, Question, Task, Timings, Writer

log = logging.getLogger(__name__)


@dataclass
class Answer:
    """An answer, or a refusal: then ``text`` is empty and ``refusal`` says how near it came."""

    text: str
    citations: list[Citation]
    passages: list[Passage]
    decision: Decision
    timings: Timings
    refusal: Verdict | None = None
    model: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    unsupported: list[Span] = field(default_factory=list)
    dropped: int = 0


@dataclass(frozen=True)
class Retrieved:
    """What an answer will rest on."""

    passages: list[Passage]


# What happens while a question is answered: passages, words, and at the end the whole.
Event = Retrieved | str | Answer


@dataclass
class _Found:
    """What one trip to search and the store came to: hits, and whether they answer."""

    near: list[list[Hit]]
    hits: list[list[Hit]]
    verdict: Verdict


class RagService:
    """Retrieves passages and answers questions from them."""

    def __init__(
        self,
        backends: Backends,
        documents: DocumentStore,
        cache: SemanticCache,
        writer: Writer,
        refusals: Abstention,
    ) -> None:
        self._backends = backends
        self._documents = documents
        self._cache = cache
        self._writer = writer
        self._refusals = refusals
        self._writes: set[asyncio.Task[Any]] = set()

    async def retrieve(self, question: Question) -> tuple[list[Passage], Verdict, Timings]:
        """Find the passages that suit a question best, and say whether they answer it."""
        question.check()
        timings = Timings()
        with timings.stage("embed"):
            vectors = await self._backends.embedder.embed_queries([question.text])
        with timings.stage("search"):
            found = await self._find(question, vectors)
        passages = await self._arrange(question, found, timings)
        return passages, found.verdict, timings.ended()

    async def ask(self, question: Question) -> Answer:
        """Answer a question: from the cache if it was answered before, else from the documents."""
        async for event in self.stream(question):
            if isinstance(event, Answer):
                return event
        raise AssertionError("every story ends with an answer")

    async def stream(self, question: Question, *, streamed: bool = False) -> AsyncIterator[Event]:
        """Tell the story of a question as it happens; ``streamed`` asks for words one by one."""
        question.check()
        timings = Timings()
        request = await self._request(question)
        with timings.stage("cache"):
            decision = await self._recall(request, question)
        if not decision.entry:
            with timings.stage("embed"):
                vectors = await self._backends.embedder.embed_queries([question.text])
            with timings.stage("search"):
                near = (
                    []
                    if question.no_cache
                    else await self._cache.queries(request, vectors, question.bound)
                )
                found = await self._find(question, vectors, near)
            with timings.stage("cache"):
                decision = await self._choose(request, question, found.near, vectors)
        if decision.entry:
            yield decision.entry.response
            yield _kept(decision, timings)
            return
        passages = await self._arrange(question, found, timings)
        if found.verdict.refused or not passages:
            yield Answer("", [], passages, decision, timings.ended(), refusal=found.verdict)
            return
        yield Retrieved(passages)
        with timings.stage("generate"):
            async for piece in self._writer.write(_task(question, streamed), passages):
                if isinstance(piece, str):
                    yield piece
                else:
                    draft = piece
        answer = _written(draft, decision, timings)
        if draft.complete and not question.no_store:
            self._remember(request, vectors, answer)
        yield answer

    async def settle(self) -> None:
        """Wait for the cache writes that run off the path."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def _request(self, question: Question) -> Request:
        """Return the key of a question; it changes whenever a collection of documents does."""
        epochs = await self._documents.epochs(question.collections)
        parameters = {
            "collections": json.dumps(dict(zip(question.collections, epochs, strict=True))),
            "filter": question.filter_key.hex(),
            "limit": str(question.limit),
            "diversity": str(question.diversity),
            "rerank": str(question.rerank),
            "prompt_tokens": str(question.prompt_tokens),
        }
        context = Context(
            model=f"rag:{question.model}", parameters=parameters, history=question.history
        )
        return Request(question.scope, context, question.text)

    async def _recall(self, request: Request, question: Question) -> Decision:
        if question.no_cache:
            return Decision("miss")
        return await self._cache.get(request, question.bound)

    async def _find(
        self, question: Question, vectors: Vectors, near: Sequence[Query] = ()
    ) -> _Found:
        """Ask the cache's semantic tier and the documents in one trip, and judge what is found."""
        (near_hits, hits), learnt = await asyncio.gather(
            self._look(question, vectors, near),
            self._refusals.calibrations(question.collections, vectors.digest),
        )
        return _Found(near_hits, hits, self._refusals.judge(hits, learnt))

    async def _look(
        self, question: Question, vectors: Vectors, near: Sequence[Query] = ()
    ) -> tuple[list[list[Hit]], list[list[Hit]]]:
        """Ask the cache's semantic tier and the documents in one trip."""
        queries = retrieval.queries(
            question.collections,
            question.text if question.by_words else "",
            vectors,
            reranking.depth(question.limit) if question.rerank else question.limit,
            filter=question.filter,
            with_vector=question.diversity > 0,
        )
        try:
            found = await self._backends.search.search([*near, *queries], vectors.digest)
        except NotFound:  # most often: nothing was ever cached by this model
            if not near:
                raise
            return [[], []], (await self._look(question, vectors))[1]
        except FailedPrecondition as failure:
            if failure.reason != "TEXT_NOT_INDEXED":
                raise
            return await self._look(replace(question, by_words=False), vectors, near)
        return found[: len(near)], found[len(near) :]

    async def _arrange(self, question: Question, found: _Found, timings: Timings) -> list[Passage]:
        """Make passages of hits; a cross-encoder orders them if the question asks for it."""
        with timings.stage("arrange"):
            ranked: Iterable[Passage] = retrieval.candidates(found.hits)
        if question.rerank:
            with timings.stage("rerank"):
                ranked = await reranking.rerank(
                    self._backends.embedder, question.text, ranked, question.limit
                )
        with timings.stage("arrange"):
            return retrieval.choose(ranked, question.limit, question.diversity)

    async def _choose(
        self,
        request: Request,
        question: Question,
        near: list[list[Hit]],
        vectors: Vectors,
    ) -> Decision:
        if question.no_cache:
            return Decision("miss")
        return await self._cache.choose(request, near, question.bound, vectors)

    def _remember(self, request: Request, vectors: Vectors, answer: Answer) -> None:
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
                answer.text,
                vectors=vectors,
                cites=cites,
                usage=answer.usage,
                detail=detail,
            )
        )
        self._writes.add(task)
        task.add_done_callback(self._remembered)

    def _remembered(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and task.exception():
            log.warning("an answer was not kept", exc_info=task.exception())


def _kept(decision: Decision, timings: Timings) -> Answer:
    entry = decision.entry
    assert entry is not None  # noqa: S101 - the caller has just asked
    return Answer(
        entry.response,
        [Citation(**citation) for citation in entry.detail["citations"]],
        [Passage(**passage) for passage in entry.detail["passages"]],
        decision,
        timings.ended(),
        model=entry.detail["model"],
        unsupported=[Span(**span) for span in entry.detail["unsupported"]],
    )


def _task(question: Question, streamed: bool) -> Task:
    return Task(question.text, question.history, question.model, question.prompt_tokens, streamed)


def _written(draft: Draft, decision: Decision, timings: Timings) -> Answer:
    return Answer(
        draft.text,
        draft.citations,
        draft.passages,
        decision,
        timings.ended(),
        model=draft.model,
        usage=draft.usage,
        unsupported=draft.unsupported,
        dropped=draft.dropped,
    )
