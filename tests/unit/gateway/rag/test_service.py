import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from services.errors import FailedPrecondition, NotFound
from services.gateway.backends.types import CollectionSpec, Document
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.service import RagService
from services.gateway.rag.store import CalibrationStore
from services.gateway.rag.types import (
    Answer,
    Citation,
    Draft,
    Passage,
    Question,
    Retrieved,
    WriteRequest,
)
from tests.fakes.backends import DIMENSIONS, fake_backends
from tests.fakes.cache import FakeCache
from tests.fakes.documents import FakeDocumentStore
from tests.fakes.passages import hit
from tests.fakes.redis import FakeRedis

OTTER, HERON = "The otter swims in the river.", "The heron waits."
QUESTION = Question("Where does the otter swim?", ["c"])


class FakeWriter:
    """Cites the first passage, and records what it receives."""

    def __init__(self) -> None:
        self.requests: list[WriteRequest] = []
        self.complete = True

    async def write(
        self, request: WriteRequest, passages: Sequence[Passage]
    ) -> AsyncIterator[str | Draft]:
        self.requests.append(request)
        yield "It swims "
        yield "[1]."
        citation = Citation(0, 13, passages[0].document, "v", passages[0].chunk, 0, 3, "The")
        yield Draft("It swims [1].", [citation], list(passages), "model", complete=self.complete)


class World:
    """A service with fakes and two documents in the collection c."""

    def __init__(self) -> None:
        redis: Any = FakeRedis()
        self.both, self.embedder, self.search = fake_backends()
        self.documents = FakeDocumentStore()
        self.cache = FakeCache()
        cache: Any = self.cache
        self.writer = FakeWriter()
        abstention = Abstention(
            CalibrationStore(redis, "test:", self.documents), self.both, min_score=0.3
        )
        self.rag = RagService(self.both, self.documents, cache, self.writer, abstention)

    async def add(self, collection: str, **texts: str) -> None:
        await self.search.ensure(CollectionSpec(f"documents-{collection}", DIMENSIONS, "digest"))
        rows = (await self.embedder.embed_documents(list(texts.values()))).rows
        documents = [
            Document(f"{key}#0", row, {}, text, hit(text, key).payload)
            for (key, text), row in zip(texts.items(), rows, strict=True)
        ]
        await self.search.upsert(f"documents-{collection}", documents, "digest")

    async def ask(self, **changes: Any) -> Answer:
        answer = await self.rag.ask(replace(QUESTION, **changes))
        await self.rag.settle()
        return answer


@pytest.fixture
async def world() -> World:
    one = World()
    await one.add("c", otter=OTTER, heron=HERON)
    return one


async def test_the_best_passages_are_retrieved(world: World) -> None:
    passages, refusal, timings = await world.rag.retrieve(QUESTION)
    assert [one.text for one in passages] == [OTTER, HERON]
    assert (refusal.refused, refusal.best_score) == (False, passages[0].similarity)
    assert timings.total > 0
    limited, _, _ = await world.rag.retrieve(replace(QUESTION, limit=1))
    assert [one.text for one in limited] == [OTTER]


async def test_several_collections_are_searched(world: World) -> None:
    await world.add("d", swimmer="Where does the lynx swim?")
    passages, _, _ = await world.rag.retrieve(replace(QUESTION, collections=["c", "d"]))
    assert {one.document for one in passages} == {"otter", "heron", "swimmer"}


async def test_the_events_of_an_answer(world: World) -> None:
    events = [event async for event in world.rag.stream(QUESTION, streamed=True)]
    assert isinstance(events[0], Retrieved)
    assert [one.document for one in events[0].passages] == ["otter", "heron"]
    assert events[1:3] == ["It swims ", "[1]."]
    final = events[3]
    assert isinstance(final, Answer)
    assert (final.text, final.model, final.decision.kind) == ("It swims [1].", "model", "miss")
    assert world.writer.requests == [WriteRequest(QUESTION.text, [], "", 0, True)]


async def test_an_answer_is_served_again_from_the_cache(world: World) -> None:
    first = await world.ask()
    again = await world.ask()
    assert (first.decision.kind, again.decision.kind) == ("miss", "exact")
    assert (again.text, again.model) == (first.text, first.model)
    assert [asdict(one) for one in again.citations] == [asdict(one) for one in first.citations]
    assert [one.text for one in again.passages] == [one.text for one in first.passages]
    assert len(world.writer.requests) == 1
    json.dumps(next(iter(world.cache.entries.values())).detail)  # as the store does


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 3},
        {"diversity": 0.5},
        {"rerank": True},
        {"model": "named"},
        {"max_prompt_tokens": 9},
        {"filter_key": b"x"},
        {"history": [("user", "Hello.")]},
    ],
)
async def test_what_changes_the_answer_is_part_of_the_key(
    world: World, change: dict[str, Any]
) -> None:
    await world.ask()
    assert (await world.ask(**change)).decision.kind == "miss"


async def test_a_change_of_the_documents_invalidates_answers(world: World) -> None:
    await world.ask()
    world.documents.counter["c"] += 1
    assert (await world.ask()).decision.kind == "miss"


async def test_a_similar_question_is_answered_by_the_semantic_tier(world: World) -> None:
    await world.ask()
    [(key, entry)] = world.cache.entries.items()
    await world.search.ensure(CollectionSpec("cache", DIMENSIONS, "digest"))
    row = (await world.embedder.embed_queries([entry.prompt])).rows[0]
    await world.search.upsert("cache", [Document(key, row)], "digest")
    answer = await world.ask(text="Where does the otter swim today?")
    assert (answer.decision.kind, answer.text) == ("semantic", "It swims [1].")
    assert len(world.writer.requests) == 1


async def test_the_cache_is_bypassed_on_request(world: World) -> None:
    await world.ask(no_store=True)
    assert world.cache.entries == {}
    await world.ask()
    assert (await world.ask(no_cache=True)).decision.kind == "miss"
    assert len(world.writer.requests) == 3


async def test_an_incomplete_answer_is_not_cached(world: World) -> None:
    world.writer.complete = False
    await world.ask()
    assert world.cache.entries == {}


async def test_a_failed_cache_write_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*words: Any, **options: Any) -> None:
        raise NotFound("GONE", "It is gone.")

    monkeypatch.setattr(world.cache, "put", fail)
    assert (await world.ask()).text
    assert [record.message for record in caplog.records] == ["an answer could not be cached"]


async def test_a_question_that_nothing_answers_is_refused(world: World) -> None:
    answer = await world.ask(text="Boiling point of tungsten?")
    assert answer.refusal is not None
    assert (answer.refusal.refused, answer.text, answer.citations) == (True, "", [])
    assert world.writer.requests == []
    assert world.cache.entries == {}


async def test_a_collection_without_a_text_index_is_searched_by_vector(world: World) -> None:
    world.search.failures = [FailedPrecondition("TEXT_NOT_INDEXED", "No text is indexed.")]
    passages, _, _ = await world.rag.retrieve(QUESTION)
    assert [one.text for one in passages] == [OTTER, HERON]
    world.search.failures = [FailedPrecondition("MODEL_DIFFERS", "The model differs.")]
    with pytest.raises(FailedPrecondition):
        await world.rag.retrieve(QUESTION)


async def test_an_unknown_collection_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.ask(collections=["unknown"])


async def test_passages_are_reranked_on_request(world: World) -> None:
    plain, _, _ = await world.rag.retrieve(QUESTION)
    reranked, _, timings = await world.rag.retrieve(replace(QUESTION, rerank=True))
    assert [one.score for one in reranked] == [len(one.text) for one in reranked]
    assert {one.text for one in reranked} == {one.text for one in plain}
    assert timings.rerank > 0
