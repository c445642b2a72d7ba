"""The real RAG service with fakes of the backends, the cache, the writer and the leases."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from services.gateway.backends.types import CollectionSpec, Document
from services.gateway.cache.shadow import ShadowSampler
from services.gateway.cache.types import Decision, Request, Scope
from services.gateway.coalescing.singleflight import Singleflight
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.answer_cache import AnswerCache
from services.gateway.rag.service import RagService
from services.gateway.rag.store import CalibrationStore
from services.gateway.rag.types import Answer, Citation, Draft, Passage, Question, WriteRequest
from tests.fakes.backends import DIMENSIONS, fake_backends
from tests.fakes.cache import FakeCache
from tests.fakes.documents import FakeDocumentStore
from tests.fakes.error_budget import FakeErrorBudget
from tests.fakes.leases import FakeLeases
from tests.fakes.passages import hit
from tests.fakes.redis import FakeRedis
from tests.fakes.tenants import fake_tenants

OTTER, HERON = "The otter swims in the river.", "The heron waits."
QUESTION = Question("Where does the otter swim?", ["c"])


class FakeWriter:
    """Cites the first passage, and records what it receives.

    Attributes:
        begun: released for each answer that is begun.
        released: set to let answers end.
        ended: how many answers ended in any way.
    """

    def __init__(self) -> None:
        self.requests: list[WriteRequest] = []
        self.complete = True
        self.name = "writer"
        self.failure: Exception | None = None
        self.released = asyncio.Event()
        self.released.set()
        self.begun = asyncio.Semaphore(0)
        self.ended = 0

    def author(self, model: str) -> str:
        return f"{self.name} {model}"

    async def write(
        self, request: WriteRequest, passages: Sequence[Passage]
    ) -> AsyncIterator[str | Draft]:
        self.requests.append(request)
        self.begun.release()
        try:
            yield "It swims "
            await self.released.wait()
            if self.failure:
                raise self.failure
            yield "[1]."
            citation = Citation(0, 13, passages[0].document, "v", passages[0].chunk, 0, 3, "The")
            yield Draft(
                "It swims [1].",
                [citation],
                list(passages),
                "model",
                {"completion_tokens": 5},
                complete=self.complete,
            )
        finally:
            self.ended += 1


class FakeUsage:
    """Records the lookups."""

    def __init__(self) -> None:
        self.events: list[tuple[Scope, Decision]] = []
        self.logged: list[str | None] = []

    @property
    def kinds(self) -> list[str]:
        return [decision.kind for _, decision in self.events]

    def record(
        self,
        scope: Scope,
        decision: Decision,
        seconds: float,
        request: Request | None = None,
    ) -> None:
        assert seconds > 0
        self.events.append((scope, decision))
        self.logged.append(request.prompt if request else None)


class Rag:
    """A service with fakes and two documents in the collection c."""

    def __init__(self, leases: FakeLeases | None = None) -> None:
        redis: Any = FakeRedis()
        self.both, self.embedder, self.search = fake_backends()
        self.documents = FakeDocumentStore()
        self.cache, self.usage = FakeCache(), FakeUsage()
        self.writer = FakeWriter()
        self.budget = FakeErrorBudget()
        budget: Any = self.budget
        self.shadow_sampler = ShadowSampler(budget)
        self.leases = leases or FakeLeases()
        self.calibrations = CalibrationStore(redis, "test:", self.documents)
        self.service = self.replica()

    def replica(self, min_score: float = 0.3) -> RagService:
        cache: Any = self.cache
        usage: Any = self.usage
        tenants = fake_tenants()
        return RagService(
            self.both,
            AnswerCache(cache, self.documents, usage),
            self.writer,
            Abstention(self.calibrations, self.both, tenants, min_score=min_score),
            Singleflight(self.leases),
            tenants=tenants,
            shadow_sampler=self.shadow_sampler,
        )

    async def add(self, collection: str, **texts: str) -> None:
        await self.search.ensure(CollectionSpec(f"documents-{collection}", DIMENSIONS, "digest"))
        rows = (await self.embedder.embed_documents(list(texts.values()))).rows
        documents = [
            Document(f"{key}#0", row, {}, text, hit(text, key).payload)
            for (key, text), row in zip(texts.items(), rows, strict=True)
        ]
        await self.search.upsert(f"documents-{collection}", documents, "digest")

    async def under_way(self) -> None:
        """Wait until the writer begins an answer."""
        await self.writer.begun.acquire()

    async def shared(self) -> None:
        """Wait until the writer begins an answer that another replica follows."""
        await self.under_way()
        await self.leases.wait_for(lambda: self.leases.waiting > 0)

    async def ask(self, **changes: Any) -> Answer:
        answer = await self.service.ask(replace(QUESTION, **changes))
        await self.leases.wait_for(lambda: not self.leases.leader)
        return answer


async def two_documents() -> Rag:
    """A service with two documents in the collection c."""
    rag = Rag()
    await rag.add("c", otter=OTTER, heron=HERON)
    return rag
