"""Grounding of a language model's answers, through gRPC and HTTP."""

import random
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, rag_pb2, rag_pb2_grpc
from tests.bench.grounding import AnswerSampler, read
from tests.documents import ingest_one
from tests.language_model import LanguageModelServer, running
from tests.stack import Stack, wait_until, wait_until_ready

QUESTION = "How much may a hotel cost in a capital?"
RIGHT = "A hotel in a capital may cost up to 180 euros a night [1]."
WRONG = "Elsewhere it may cost 150 euros [1]."
DOCUMENT = "A hotel in a capital may cost up to 180 euros a night. Elsewhere it may cost 120 euros."


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModelServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def written(redis_url: str, prefix: str, model: LanguageModelServer) -> Iterator[Stack]:
    """Services with a language model."""
    settings: dict[str, Any] = {"llm_base_url": model.url, "llm_model": "test-model"}
    with closing(Stack(redis_url, f"{prefix}grounded:", **settings)) as stack:
        wait_until_ready(stack)
        yield stack


@pytest.fixture
def name(written: Stack, model: LanguageModelServer) -> str:
    name = f"grounding-{uuid.uuid4()}"
    ingest_one(rag_pb2_grpc.RagServiceStub(written.gateway), name, "travel", DOCUMENT)
    model.answer = lambda _: f"{RIGHT} {WRONG}"
    return name


def ask(written: Stack, name: str, **more: Any) -> Any:
    request = rag_pb2.AskRequest(collection=name, question=QUESTION, **more)
    return rag_pb2_grpc.RagServiceStub(written.gateway).Ask(request, timeout=120)


def is_cached(reply: Any) -> bool:
    return bool(reply.decision.kind == cache_pb2.DECISION_KIND_EXACT)


def unsupported(reply: Any) -> list[tuple[str, int, str]]:
    return [
        (reply.answer[one.start : one.end], one.reason, one.detail) for one in reply.unsupported
    ]


def test_unsupported_sentences_are_marked_and_the_cache_keeps_the_verdict(
    written: Stack, name: str
) -> None:
    first = ask(written, name)
    wait_until(lambda: is_cached(ask(written, name)))
    for reply in (first, ask(written, name)):
        assert unsupported(reply) == [(WRONG, rag_pb2.UNSUPPORTED_REASON_NUMBER, "150")]
        assert [one.supported for one in reply.citations] == [True, False]


def test_unsupported_sentences_are_dropped_before_they_are_streamed(
    written: Stack, name: str
) -> None:
    request = rag_pb2.StreamAskRequest(
        collection=name, question=QUESTION, grounding=rag_pb2.GROUNDING_DROP
    )
    events = list(rag_pb2_grpc.RagServiceStub(written.gateway).StreamAsk(request, timeout=120))
    assert "".join(one.delta for one in events) == events[-1].final.answer == RIGHT
    assert events[-1].final.dropped_sentences == 1
    assert [one.citation.supported for one in events if one.HasField("citation")] == [True]
    wait_until(lambda: is_cached(ask(written, name, grounding=rag_pb2.GROUNDING_DROP)))
    again = ask(written, name, grounding=rag_pb2.GROUNDING_DROP)
    assert (again.answer, again.dropped_sentences) == (RIGHT, 1)


def test_an_answer_without_a_supported_sentence_is_a_refusal(
    written: Stack, name: str, model: LanguageModelServer
) -> None:
    model.answer = lambda _: WRONG
    for _ in range(2):  # it is not cached
        reply = ask(written, name, grounding=rag_pb2.GROUNDING_DROP)
        assert reply.refusal.reason == rag_pb2.REFUSAL_REASON_UNSUPPORTED
        assert (reply.answer, reply.dropped_sentences) == ("", 1)
        assert reply.decision.kind == cache_pb2.DECISION_KIND_MISS


def test_http_has_the_same_choice(written: Stack, name: str) -> None:
    def post(grounding: str) -> httpx.Response:
        body = {"collection": name, "question": QUESTION, "grounding": grounding}
        return httpx.post(f"http://{written.http_address}/v1/ask", json=body, timeout=120)

    marked = post("GROUNDING_MARK").json()
    assert [(one["reason"], one["detail"]) for one in marked["unsupported"]] == [
        ("UNSUPPORTED_REASON_NUMBER", "150")
    ]
    assert post("GROUNDING_DROP").json()["answer"] == RIGHT
    off = post("GROUNDING_OFF").json()
    assert "unsupported" not in off or off["unsupported"] == []
    assert post("GROUNDING_MAYBE").status_code == 400


def test_misquotes_of_abstracts_are_found(data: Path) -> None:
    documents = read(data / "scifact" / "corpus.jsonl")
    answers = AnswerSampler(documents, random.Random(9).sample(range(len(documents)), 100), seed=2)
    good = [bool(found) for _, _, found in answers.good()]
    bad = [bool(found) for _, _, found in answers.bad()]
    assert sum(bad) >= 0.9 * len(bad) > 0
    assert sum(good) <= 0.03 * len(good)
