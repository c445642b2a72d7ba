"""The cache's two verifiers together: the gateway's own one, and the embedder's cross-encoder."""

import uuid
from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from services.gateway.cache.vectors import unit
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier
from services.gateway.cache.verifier.pair_verifier import MODEL
from tests.stack import Stack, wait_until

STORED = "What should my young dog eat to become big and strong?"
ASKED = "What should my puppy eat to grow big and strong?"


@pytest.fixture(scope="module")
def embedder(stack: Stack) -> Any:
    """The embedder, once it has loaded the cross-encoder."""
    stub = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    request = embedder_pb2.GetModelRequest(name=MODEL)
    wait_until(lambda: stub.GetModel(request).model.ready)
    return stub


def test_the_embedder_scores_pairs_of_questions(embedder: Any) -> None:
    others = ["What should my puppy eat to grow big and strong?", "Why does my dog bark at night?"]
    request = embedder_pb2.RerankRequest(model=MODEL, query=STORED, texts=others)
    reply = embedder.Rerank(request)
    assert reply.scores[0] > reply.scores[1]
    assert Verifier.load().knows_scores_of(reply.model_digest)


def test_it_is_no_default_for_reranking(embedder: Any) -> None:
    with pytest.raises(grpc.RpcError) as error:
        embedder.Rerank(embedder_pb2.RerankRequest(query="a", texts=["b"]))
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_lookup_combines_both(stack: Stack, embedder: Any) -> None:
    cache: Any = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    scope = cache_pb2.Scope(tenant=str(uuid.uuid4()))
    cache.CreateEntry(cache_pb2.CreateEntryRequest(scope=scope, prompt=STORED, response="Meat."))
    decision = cache.LookupEntry(
        cache_pb2.LookupEntryRequest(scope=scope, prompt=ASKED, min_similarity=0.5)
    ).decision
    inputs = [embedder_pb2.Input(text=text) for text in (ASKED, STORED)]
    reply = embedder.Embed(embedder_pb2.EmbedRequest(inputs=inputs, task=embedder_pb2.TASK_QUERY))
    vectors = np.frombuffer(reply.vectors, "<f4").reshape(2, -1)
    asked, stored = (
        Question(LexicalText(text), unit(vector), reply.model_digest)
        for text, vector in zip((ASKED, STORED), vectors, strict=True)
    )
    verifier, cosine = Verifier.load(), float(vectors[0] @ vectors[1])
    first = verifier.judge(asked, stored, cosine)
    request = embedder_pb2.RerankRequest(model=MODEL, query=ASKED, texts=[STORED])
    both = verifier.refine(first, asked, stored, cosine, embedder.Rerank(request).scores[0])
    assert decision.probability_correct == pytest.approx(both.probability, abs=0.003)
    assert abs(both.probability - first.probability) > 0.006
