"""Answers from documents and the cache, with real models."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, rag_pb2, rag_pb2_grpc
from tests.documents import ingest, ingest_one
from tests.language_model import LanguageModelServer, running
from tests.stack import Stack, wait_until, wait_until_ready

MISS, EXACT = cache_pb2.DECISION_KIND_MISS, cache_pb2.DECISION_KIND_EXACT
SEMANTIC = cache_pb2.DECISION_KIND_SEMANTIC
SHOPS = {
    "London": "The London shop is open from 9 am to 6 pm, Monday to Saturday.",
    "Paris": "The Paris shop is open from 10 am to 7 pm, Tuesday to Saturday.",
    "Berlin": "The Berlin shop is open from 8 am to 8 pm every day.",
}
OTHERS = {
    "office": "Paris is the capital of France. Our Paris office was founded in 1999.",
    "parking": "Parking in Paris: there is a garage next to the shop.",
    "returns": "Goods may be returned within 30 days in every shop.",
}


@pytest.fixture(scope="module")
def rag(stack: Stack) -> rag_pb2_grpc.RagServiceStub:
    return rag_pb2_grpc.RagServiceStub(stack.gateway)


@pytest.fixture(scope="module")
def shops(rag: Any) -> str:
    """A collection with the opening hours of shops, and other documents that name them."""
    name = f"shops-{uuid.uuid4()}"
    rows = [
        {"id": town, "title": f"Opening hours in {town}", "content": text}
        for town, text in SHOPS.items()
    ]
    rows += [{"id": key, "content": text} for key, text in OTHERS.items()]
    ingest(rag, name, rows)
    return name


@pytest.fixture
def scope() -> cache_pb2.Scope:
    return cache_pb2.Scope(namespace=str(uuid.uuid4()))


@pytest.fixture
def model() -> Iterator[LanguageModelServer]:
    with running(lambda body: "It is open [1].") as server:
        yield server


def said(*texts: str) -> list[cache_pb2.Message]:
    """A conversation with these messages of the user."""
    pairs = [
        [
            cache_pb2.Message(role="user", content=text),
            cache_pb2.Message(role="assistant", content="From 9 am to 6 pm."),
        ]
        for text in texts
    ]
    return [message for pair in pairs for message in pair]


def ask(rag: Any, name: str, question: str, **more: Any) -> Any:
    return rag.Ask(rag_pb2.AskRequest(collection=name, question=question, **more), timeout=60)


@pytest.mark.parametrize(
    ("before", "question", "document"),
    [
        (["What are the opening hours in London?"], "And in Paris?", "Paris"),
        (["When does the London shop open?"], "And Paris?", "Paris"),
        (["When does the London shop open?"], "And in Berlin?", "Berlin"),
        (["When does the Paris shop open?", "And in Berlin?"], "And in London?", "London"),
        (["When does the London shop open?"], "How many days may I return goods?", "returns"),
        (["When does the London shop open?"], "Where can I park in Paris?", "parking"),
    ],
)
def test_a_follow_up_question_finds_what_it_is_about(
    rag: Any, shops: str, scope: Any, before: list[str], question: str, document: str
) -> None:
    history = said(*before)
    request = rag_pb2.RetrieveRequest(collection=shops, question=question, history=history)
    reply = rag.Retrieve(request)
    assert reply.passages[0].document_id == document
    assert not reply.HasField("refusal")
    answer = ask(rag, shops, question, history=history, scope=scope)
    assert answer.passages[0].document_id == document
    assert document in {citation.document for citation in answer.citations}


def test_a_follow_up_question_is_cached_in_its_conversation(
    rag: Any, shops: str, scope: Any
) -> None:
    london = said("What are the opening hours in London?")
    parking = said("Where can I park in London?")

    def kind(history: Any) -> int:
        reply: int = ask(rag, shops, "And in Paris?", history=history, scope=scope).decision.kind
        return reply

    assert kind(london) == MISS
    wait_until(lambda: kind(london) == EXACT)
    assert kind(parking) == MISS
    assert kind([]) == MISS


def test_lookups_count_with_what_they_saved(
    redis_url: str, prefix: str, model: LanguageModelServer, scope: Any
) -> None:
    settings: dict[str, Any] = {"llm_base_url": model.url, "llm_model": "test"}
    question = "When does the London shop open?"
    with closing(Stack(redis_url, f"{prefix}counted:", **settings)) as stack:
        wait_until_ready(stack)
        rag, cache = rag_pb2_grpc.RagServiceStub(stack.gateway), _cache(stack)
        ingest_one(rag, "shops", "London", SHOPS["London"])
        first = ask(rag, "shops", question, scope=scope)
        assert first.decision.kind == MISS
        wait_until(lambda: ask(rag, "shops", question, scope=scope).decision.kind == EXACT)
        loose = rag_pb2.CacheControl(min_similarity=0.9)
        near = ask(rag, "shops", "When does the London shop open", scope=scope, cache=loose)
        assert near.decision.kind == SEMANTIC
        stats = cache.GetStats(cache_pb2.GetStatsRequest(scope=scope))
        hits = stats.exact + stats.semantic
        assert stats.misses >= 1
        assert stats.exact >= 1
        assert stats.semantic == 1
        assert stats.saved.prompt_tokens == hits * first.usage.prompt_tokens
        assert stats.saved.completion_tokens == hits * first.usage.completion_tokens
        assert stats.saved.seconds > 0


def test_an_extractive_answer_is_not_served_once_there_is_a_language_model(
    redis_url: str, prefix: str, model: LanguageModelServer, scope: Any
) -> None:
    question, own = "When does the London shop open?", f"{prefix}writers:"

    def asked(**settings: Any) -> tuple[int, int]:
        with closing(Stack(redis_url, own, **settings)) as stack:
            wait_until_ready(stack)
            rag = rag_pb2_grpc.RagServiceStub(stack.gateway)
            ingest_one(rag, "shops", "London", SHOPS["London"])
            reply = ask(rag, "shops", question, scope=scope)
            wait_until(lambda: ask(rag, "shops", question, scope=scope).decision.kind == EXACT)
            return reply.decision.kind, reply.writer

    assert asked() == (MISS, rag_pb2.WRITER_EXTRACTIVE)
    written: dict[str, Any] = {"llm_base_url": model.url, "llm_model": "test"}
    assert asked(**written) == (MISS, rag_pb2.WRITER_LANGUAGE_MODEL)
    assert asked() == (EXACT, rag_pb2.WRITER_EXTRACTIVE)


def _cache(stack: Stack) -> Any:
    return cache_pb2_grpc.CacheServiceStub(stack.gateway)
