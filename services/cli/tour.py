"""Shows on a running stack, with times, what it can do."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc

from memetwin.gateway.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    rag_pb2,
    rag_pb2_grpc,
    twin_pb2,
    twin_pb2_grpc,
)
from memetwin.search.v1 import search_pb2
from services.cli.load import COLLECTION, DEMO

QUESTION = "Which cat became famous for looking annoyed?"
SAME_MEANING = "Which cat got famous because it looked annoyed?"
OTHER = "Which dog became famous for looking annoyed?"
NOT_HERE = "What is the boiling point of tungsten?"
_METRICS = (
    ("cosine", search_pb2.METRIC_COSINE),
    ("inner product", search_pb2.METRIC_IP),
    ("Euclidean", search_pb2.METRIC_L2),
)

Say = Callable[[str], Any]


def run(channel: grpc.Channel, say: Say) -> None:
    """Walk through all of it. Raises grpc.RpcError if the stack does not answer."""
    _twin(twin_pb2_grpc.TwinServiceStub(channel), say)
    rag = rag_pb2_grpc.RagServiceStub(channel)
    _search(rag, say)
    _cache(cache_pb2_grpc.CacheServiceStub(channel), say)
    _answer(rag, say)
    _refusal(rag, say)


def _twin(stub: twin_pb2_grpc.TwinServiceStub, say: Say) -> None:
    say("A photo looks for its meme twin")
    photo = (DEMO / "visitor.jpg").read_bytes()
    for name, metric in _METRICS:
        request = twin_pb2.FindTwinRequest(image=photo, metric=metric, limit=1)
        reply, seconds = _timed(stub.FindTwin, request)
        for twin in reply.twins:
            score = f"similarity {twin.similarity:.3f}, distance {twin.distance:.3f}"
            say(f"  {name:13} → {twin.title} ({score}){_took(seconds)}")


def _search(stub: rag_pb2_grpc.RagServiceStub, say: Say) -> None:
    question = "an animal that looks unhappy"
    say(f"\nA semantic search: “{question}”, from 2010 on")
    since = search_pb2.NumberCondition(
        field="year", op=search_pb2.NUMBER_OPERATOR_GE, values=[2010]
    )
    request = rag_pb2.RetrieveRequest(
        collection=COLLECTION, question=question, filter=search_pb2.Filter(number=since), limit=3
    )
    reply, seconds = _timed(stub.Retrieve, request)
    for passage in reply.passages:
        say(f"  {passage.score:.3f}  {passage.title}: {passage.text[:70].strip()} …")
    say(f"  {_took(seconds).strip()}")


def _cache(stub: cache_pb2_grpc.CacheServiceStub, say: Say) -> None:
    say("\nThe semantic cache")
    scope = cache_pb2.Scope(namespace=f"tour-{uuid.uuid4()}")
    create = cache_pb2.CreateEntryRequest(
        scope=scope, prompt=QUESTION, response="Grumpy Cat.", ttl=60
    )
    _, seconds = _timed(stub.CreateEntry, create)
    say(f"  kept: “{QUESTION}”{_took(seconds)}")
    for prompt in (QUESTION, SAME_MEANING, OTHER):
        request = cache_pb2.LookupEntryRequest(scope=scope, prompt=prompt, min_similarity=0.85)
        reply, seconds = _timed(stub.LookupEntry, request)
        decision = reply.decision
        kind = cache_pb2.DecisionKind.Name(decision.kind).rpartition("_")[2].lower()
        say(f"  {kind:8} {decision.similarity:.3f} “{prompt}”{_took(seconds)}")


def _answer(stub: rag_pb2_grpc.RagServiceStub, say: Say) -> None:
    say(f"\nAn answer from the documents: “{QUESTION}”")
    request = rag_pb2.AskRequest(collection=COLLECTION, question=QUESTION)
    request.scope.namespace = f"tour-{uuid.uuid4()}"
    for _ in range(2):
        reply, seconds = _timed(stub.Ask, request)
        kind = cache_pb2.DecisionKind.Name(reply.decision.kind).rpartition("_")[2].lower()
        say(f"  cache {kind}{_took(seconds)}")
        time.sleep(0.3)  # the answer is kept after it was given
    say(f"  {reply.answer}")
    for citation in reply.citations:
        say(f"    cites {citation.document} {citation.source_start}–{citation.source_end}")


def _refusal(stub: rag_pb2_grpc.RagServiceStub, say: Say) -> None:
    say(f"\nA question that nothing here answers: “{NOT_HERE}”")
    reply, seconds = _timed(stub.Ask, rag_pb2.AskRequest(collection=COLLECTION, question=NOT_HERE))
    if reply.HasField("refusal"):
        reason = rag_pb2.RefusalReason.Name(reply.refusal.reason)
        say(f"  refused: {reason}, best score {reply.refusal.best_score:.3f}{_took(seconds)}")
    else:
        say(f"  {reply.answer}{_took(seconds)}")


def _timed(call: Callable[..., Any], request: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    reply = call(request, timeout=60, wait_for_ready=True)
    return reply, time.perf_counter() - started


def _took(seconds: float) -> str:
    return f"  [{seconds * 1000:.0f} ms]"
