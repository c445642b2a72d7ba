"""Answers questions from documents: the story of a question reads top to bottom in ``ask``."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from services.errors import InvalidArgument, NotFound
from services.gateway import ingest
from services.gateway.cache import Cache
from services.gateway.clients import Hit, Neighbours, Query, Vectors
from services.gateway.entries import Bound, Context, Decision, Request, Scope
from services.gateway.generator import Citation, Passage, Task, Writer
from services.gateway.ledger import Ledger

log = logging.getLogger(__name__)

DEFAULT_PASSAGES = 8
PASSAGE_LIMIT = 1000
COLLECTION_LIMIT = 8


@dataclass(frozen=True)
class Question:
    """A question to collections of documents.

    ``filter`` is a Filter message as the caller sent it, and ``filter_key`` its bytes.
    """

    text: str
    collections: list[str]
    limit: int = DEFAULT_PASSAGES
    filter: Any = None
    filter_key: bytes = b""
    scope: Scope = field(default_factory=Scope)
    history: list[tuple[str, str]] = field(default_factory=list)
    model: str = ""
    no_cache: bool = False
    no_store: bool = False
    bound: Bound = field(default_factory=Bound)

    def check(self) -> None:
        """Raise InvalidArgument for what can never be answered."""
        if not self.text.strip():
            raise InvalidArgument("EMPTY_QUESTION", "The question is empty.", field="question")
        if not 0 < self.limit <= PASSAGE_LIMIT:
            raise InvalidArgument("BAD_LIMIT", f"limit is 1 to {PASSAGE_LIMIT}.", field="limit")
        if len(self.collections) > COLLECTION_LIMIT:
            raise InvalidArgument(
                "TOO_MANY_COLLECTIONS",
                f"At most {COLLECTION_LIMIT} collections at once.",
                field="additional_collections",
            )
        for name in self.collections:
            ingest.check_collection(name)


@dataclass
class Timings:
    """Seconds by stage."""

    cache: float = 0.0
    embed: float = 0.0
    search: float = 0.0
    generate: float = 0.0
    total: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of what runs inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)


@dataclass
class Answer:
    """An answer, or a refusal: then ``text`` is empty and ``best_score`` says how near it came."""

    text: str
    citations: list[Citation]
    passages: list[Passage]
    decision: Decision
    timings: Timings
    refused: bool = False
    best_score: float = 0.0
    model: str = ""
    usage: dict[str, int] = field(default_factory=dict)


class Answers:
    """Retrieves passages and answers questions from them."""

    def __init__(
        self,
        neighbours: Neighbours,
        ledger: Ledger,
        cache: Cache,
        writer: Writer,
        *,
        min_score: float,
    ) -> None:
        self._neighbours = neighbours
        self._ledger = ledger
        self._cache = cache
        self._writer = writer
        self._min_score = min_score
        self._writes: set[asyncio.Task[Any]] = set()

    async def retrieve(self, question: Question) -> tuple[list[Passage], Timings]:
        """Find the passages nearest to a question, best first."""
        question.check()
        timings = Timings()
        with timings.stage("total"):
            with timings.stage("embed"):
                vectors = await self._neighbours.embedder.questions([question.text])
            with timings.stage("search"):
                found = await self._search(_queries(question, vectors), vectors)
        return _merge(found, question.limit), timings

    async def ask(self, question: Question) -> Answer:
        """Answer a question: from the cache if it was answered before, else from the documents."""
        question.check()
        timings = Timings()
        with timings.stage("total"):
            request = await self._request(question)
            with timings.stage("cache"):
                decision = await self._recall(request, question)
            if decision.entry:
                return _kept(decision, timings)
            with timings.stage("embed"):
                vectors = await self._neighbours.embedder.questions([question.text])
            with timings.stage("search"):
                near, found = await self._look(request, question, vectors)
            with timings.stage("cache"):
                decision = await self._choose(request, question, near, vectors)
            if decision.entry:
                return _kept(decision, timings)
            passages = _merge(found, question.limit)
            best = passages[0].similarity if passages else 0.0
            if best < self._min_score:
                return Answer("", [], passages, decision, timings, refused=True, best_score=best)
            with timings.stage("generate"):
                draft = await self._writer.write(
                    Task(question.text, question.history, question.model), passages
                )
            answer = Answer(
                draft.text, draft.citations, passages, decision, timings, best_score=best,
                model=draft.model, usage=draft.usage,
            )  # fmt: skip
            if not question.no_store:
                self._remember(request, vectors, answer)
            return answer

    async def settle(self) -> None:
        """Wait for the cache writes that run off the path."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def _request(self, question: Question) -> Request:
        """Return the key of a question; it changes whenever a collection of documents does."""
        epochs = await self._ledger.epochs(question.collections)
        parameters = {
            "collections": json.dumps(dict(zip(question.collections, epochs, strict=True))),
            "filter": question.filter_key.hex(),
            "limit": str(question.limit),
        }
        context = Context(
            model=f"rag:{question.model}", parameters=parameters, history=question.history
        )
        return Request(question.scope, context, question.text)

    async def _recall(self, request: Request, question: Question) -> Decision:
        if question.no_cache:
            return Decision("miss")
        return await self._cache.recall(request, question.bound)

    async def _look(
        self, request: Request, question: Question, vectors: Vectors
    ) -> tuple[list[list[Hit]], list[list[Hit]]]:
        """Ask the cache's semantic tier and the documents in one trip."""
        documents = _queries(question, vectors)
        if question.no_cache:
            return [[], []], await self._search(documents, vectors)
        near = await self._cache.queries(request, vectors)
        try:
            found = await self._neighbours.search.search([*near, *documents], vectors.digest)
        except NotFound:  # most often: nothing was ever cached by this model
            return [[], []], await self._search(documents, vectors)
        return found[: len(near)], found[len(near) :]

    async def _search(self, queries: Sequence[Query], vectors: Vectors) -> list[list[Hit]]:
        return await self._neighbours.search.search(queries, vectors.digest)

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
            "best_score": answer.best_score,
        }
        cites = sorted({f"documents/{citation.document}" for citation in answer.citations})
        task = asyncio.create_task(
            self._cache.remember(
                request,
                answer.text,
                vectors=vectors,
                cites=cites,
                usage=answer.usage,
                detail=detail,
            )
        )
        self._writes.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[Any]) -> None:
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
        timings,
        best_score=entry.detail["best_score"],
        model=entry.detail["model"],
    )


def _queries(question: Question, vectors: Vectors) -> list[Query]:
    return [
        Query(
            ingest.search_collection(name),
            vectors.rows[0],
            question.limit,
            filter=question.filter,
            with_text=True,
        )
        for name in question.collections
    ]


def _merge(found: Sequence[Sequence[Hit]], limit: int) -> list[Passage]:
    passages = [_passage(hit) for hits in found for hit in hits]
    return sorted(passages, key=lambda passage: -passage.score)[:limit]


def _passage(hit: Hit) -> Passage:
    place = json.loads(hit.payload)
    fields = {name: value for name, value in hit.fields.items() if name != ingest.DOCUMENT_FIELD}
    return Passage(
        document=place["document"],
        chunk=hit.id,
        text=hit.text,
        score=hit.similarity,
        similarity=hit.similarity,
        title=place["title"],
        version=place["version"],
        start=place["start"],
        end=place["end"],
        fields=dict(fields),
    )
