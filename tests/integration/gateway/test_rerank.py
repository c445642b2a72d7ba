"""Reranking with a small cross-encoder.

Its random weights give an order that nothing else gives.
"""

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, rag_pb2, rag_pb2_grpc
from tests.corpus import ANIMALS
from tests.documents import ingest
from tests.refusals import refusal
from tests.small_models import cross_encoder
from tests.stack import Stack, wait_until, wait_until_ready

QUESTION = "Where does the otter swim?"


@pytest.fixture(scope="module")
def name() -> str:
    return f"rerank-{uuid.uuid4()}"


@pytest.fixture(scope="module")
def reranking(
    redis_url: str, prefix: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack with a cross-encoder."""
    folder = tmp_path_factory.mktemp("models") / "reranker"
    settings = {"rerank_model": cross_encoder(folder)}
    with closing(Stack(redis_url, f"{prefix}rerank:", embedder=settings)) as stack:
        wait_until_ready(stack)
        embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
        request = embedder_pb2.RerankRequest(query="a", texts=["b"])
        wait_until(lambda: embedder.Rerank(request).scores)
        documents = [
            {"id": one, "title": one.title(), "content": f"The {one} swims in river {number}."}
            for number, one in enumerate(ANIMALS)
        ]
        ingest(rag_pb2_grpc.RagServiceStub(stack.gateway), name, documents)
        yield stack


def retrieve(stack: Any, name: str, **more: Any) -> Any:
    request = rag_pb2.RetrieveRequest(collection=name, question=QUESTION, **more)
    return rag_pb2_grpc.RagServiceStub(stack.gateway).Retrieve(request, timeout=60)


def test_passages_come_in_the_order_of_the_cross_encoder(reranking: Stack, name: str) -> None:
    plain = retrieve(reranking, name, limit=10)
    reply = retrieve(reranking, name, limit=10, rerank=True)
    assert plain.timings.rerank == 0 < reply.timings.rerank
    assert sorted(one.text for one in reply.passages) == sorted(one.text for one in plain.passages)
    texts = [f"{one.title}\n{one.text}" for one in reply.passages]
    request = embedder_pb2.RerankRequest(query=QUESTION, texts=texts)
    embedder = embedder_pb2_grpc.EmbedderServiceStub(reranking.embedder)
    scores = list(embedder.Rerank(request).scores)
    assert [one.score for one in reply.passages] == pytest.approx(scores, abs=1e-5)
    assert scores == sorted(scores, reverse=True)
    assert [one.text for one in reply.passages] != [one.text for one in plain.passages]
    near = {one.text: one.similarity for one in plain.passages}
    assert all(one.similarity == pytest.approx(near[one.text]) for one in reply.passages)


def test_few_are_selected_of_many_that_are_reranked(reranking: Stack, name: str) -> None:
    best = retrieve(reranking, name, limit=10, rerank=True).passages[:2]
    assert list(retrieve(reranking, name, limit=2, rerank=True).passages) == best
    mixed = retrieve(reranking, name, limit=2, rerank=True, diversity=0.5).passages
    assert (len(mixed), mixed[0]) == (2, best[0])


def test_answers_rest_on_what_was_reranked(reranking: Stack, name: str) -> None:
    stub = rag_pb2_grpc.RagServiceStub(reranking.gateway)

    def ask(**more: Any) -> Any:
        request = rag_pb2.AskRequest(collection=name, question=QUESTION, limit=3, **more)
        return stub.Ask(request, timeout=60)

    wanted = retrieve(reranking, name, limit=3, rerank=True).passages
    reply = ask(rerank=True)
    assert list(reply.passages) == list(wanted)
    assert reply.timings.rerank > 0
    exact = cache_pb2.DECISION_KIND_EXACT
    wait_until(lambda: ask(rerank=True).decision.kind == exact)
    assert ask().decision.kind == cache_pb2.DECISION_KIND_MISS


def test_without_a_cross_encoder_reranking_is_refused(stack: Stack, name: str) -> None:
    stub = rag_pb2_grpc.RagServiceStub(stack.gateway)
    ingest(stub, name, [{"id": "a", "content": "The otter swims."}])
    request = rag_pb2.RetrieveRequest(collection=name, question=QUESTION, rerank=True)
    expected = (grpc.StatusCode.FAILED_PRECONDITION, "NO_RERANK_MODEL")
    assert refusal(stub.Retrieve, request)[:2] == expected
