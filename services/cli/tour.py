"""``memetwin tour``: shows what a running stack can do, with timings."""

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
DIFFERENT_MEANING = "Which dog became famous for looking annoyed?"
UNANSWERABLE = "What is the boiling point of tungsten?"
_METRICS = (
    ("cosine", search_pb2.METRIC_COSINE),
    ("inner product", search_pb2.METRIC_IP),
    ("Euclidean", search_pb2.METRIC_L2),
)

Echo = Callable[[str], Any]


def run(channel: grpc.Channel, echo: Echo) -> None:
    """Call each service of the gateway and print the results.

    Raises:
        grpc.RpcError: the gateway refuses a call or is unreachable.
    """
    _twin(twin_pb2_grpc.TwinServiceStub(channel), echo)
    rag = rag_pb2_grpc.RagServiceStub(channel)
    _search(rag, echo)
    _cache(cache_pb2_grpc.CacheServiceStub(channel), echo)
    _answer(rag, echo)
    _refusal(rag, echo)


def _twin(stub: twin_pb2_grpc.TwinServiceStub, echo: Echo) -> None:
    echo("The meme twin of a photo")
    photo = (DEMO / "visitor.jpg").read_bytes()
    for name, metric in _METRICS:
        request = twin_pb2.FindTwinRequest(image=photo, metric=metric, limit=1)
        reply, seconds = _timed(stub.FindTwin, request)
        for twin in reply.twins:
            score = f"similarity {twin.similarity:.3f}, distance {twin.distance:.3f}"
            echo(f"  {name:13} → {twin.title} ({score}){_took(seconds)}")


def _search(stub: rag_pb2_grpc.RagServiceStub, echo: Echo) -> None:
    question = "an animal that looks unhappy"
    echo(f"\nA semantic search: “{question}”, since 2010")
    since = search_pb2.NumberCondition(
        field="year", op=search_pb2.NUMBER_OPERATOR_GE, values=[2010]
    )
    request = rag_pb2.RetrieveRequest(
        collection=COLLECTION, question=question, filter=search_pb2.Filter(number=since), limit=3
    )
    reply, seconds = _timed(stub.Retrieve, request)
    for passage in reply.passages:
        echo(f"  {passage.score:.3f}  {passage.title}: {passage.text[:70].strip()} …")
    echo(f"  {_took(seconds).strip()}")


def _cache(stub: cache_pb2_grpc.CacheServiceStub, echo: Echo) -> None:
    echo("\nThe semantic cache")
    scope = cache_pb2.Scope(namespace=f"tour-{uuid.uuid4()}")
    create = cache_pb2.CreateEntryRequest(
        scope=scope, prompt=QUESTION, response="Grumpy Cat.", ttl=60
    )
    _, seconds = _timed(stub.CreateEntry, create)
    echo(f"  stored: “{QUESTION}”{_took(seconds)}")
    for prompt in (QUESTION, SAME_MEANING, DIFFERENT_MEANING):
        request = cache_pb2.LookupEntryRequest(scope=scope, prompt=prompt, min_similarity=0.85)
        reply, seconds = _timed(stub.LookupEntry, request)
        decision = reply.decision
        kind = cache_pb2.DecisionKind.Name(decision.kind).rpartition("_")[2].lower()
        echo(f"  {kind:8} {decision.similarity:.3f} “{prompt}”{_took(seconds)}")


def _answer(stub: rag_pb2_grpc.RagServiceStub, echo: Echo) -> None:
    echo(f"\nAn answer from the documents: “{QUESTION}”")
    request = rag_pb2.AskRequest(collection=COLLECTION, question=QUESTION)
    request.scope.namespace = f"tour-{uuid.uuid4()}"
    for _ in range(2):
        reply, seconds = _timed(stub.Ask, request)
        kind = cache_pb2.DecisionKind.Name(reply.decision.kind).rpartition("_")[2].lower()
        echo(f"  cache {kind}{_took(seconds)}")
        time.sleep(0.3)  # the gateway stores the answer after it has returned it
    echo(f"  {reply.answer}")
    for citation in reply.citations:
        echo(f"    cites {citation.document} {citation.source_start}–{citation.source_end}")


def _refusal(stub: rag_pb2_grpc.RagServiceStub, echo: Echo) -> None:
    echo(f"\nA question that the documents do not answer: “{UNANSWERABLE}”")
    reply, seconds = _timed(
        stub.Ask, rag_pb2.AskRequest(collection=COLLECTION, question=UNANSWERABLE)
    )
    if reply.HasField("refusal"):
        reason = rag_pb2.RefusalReason.Name(reply.refusal.reason)
        echo(f"  refused: {reason}, best score {reply.refusal.best_score:.3f}{_took(seconds)}")
    else:
        echo(f"  {reply.answer}{_took(seconds)}")


def _timed(call: Callable[..., Any], request: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    reply = call(request, timeout=60, wait_for_ready=True)
    return reply, time.perf_counter() - started


def _took(seconds: float) -> str:
    return f"  [{seconds * 1000:.0f} ms]"
