"""Answers from documents that callers of three gateways share, while something fails."""

import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, rag_pb2, rag_pb2_grpc
from tests.documents import ingest_one
from tests.language_model import LanguageModelServer, running
from tests.service_process import ServiceProcess
from tests.stack import Stack, wait_until

ANSWER = "It swims in the river [1]."
EXACT = cache_pb2.DECISION_KIND_EXACT


@pytest.fixture
def model() -> Iterator[LanguageModelServer]:
    with running(lambda body: ANSWER) as one:
        yield one


@pytest.fixture
def gateways(
    stack: Stack, redis_url: str, prefix: str, model: LanguageModelServer
) -> Iterator[list[tuple[ServiceProcess, Any]]]:
    """Three gateways, each in its own process and with a stub; the last has no embedder."""
    settings = {"REDIS_URL": redis_url, "REDIS_PREFIX": prefix, "CHAT_LEASE": "2"}
    settings |= {"LLM_BASE_URL": model.url, "LLM_MODEL": "parrot"}
    settings |= {"EMBEDDER_ADDRESS": stack.embedder_address, "SEARCH_ADDRESS": stack.search_address}
    deaf = settings | {"EMBEDDER_ADDRESS": "127.0.0.1:1"}
    started = [ServiceProcess("gateway", **each) for each in (settings, settings, deaf)]
    ingest_one(rag_pb2_grpc.RagServiceStub(stack.gateway), "otters", "a", ANSWER)
    stubs = [(one, rag_pb2_grpc.RagServiceStub(one.channel)) for one in started]
    warm = f"Where does otter {uuid.uuid4()} swim?"
    for _, stub in stubs:  # the last one answers from the cache
        wait_until(lambda stub=stub: _try(stub, warm) == ANSWER, 120)
    yield stubs
    for one in started:
        one.close()


@pytest.fixture
def question(model: LanguageModelServer) -> str:
    """A question that the model answers when it is released."""
    text = f"Where does otter {uuid.uuid4()} swim?"
    model.hold(text)
    return text


def _try(stub: Any, question: str) -> str:
    try:
        return str(send(stub, question).result().answer)
    except grpc.RpcError:
        return ""


def send(stub: Any, question: str, **more: Any) -> Any:
    """Ask without waiting for the reply."""
    request = rag_pb2.AskRequest(collection="otters", question=question, **more)
    return stub.Ask.future(request, timeout=60)


def test_callers_of_all_gateways_make_one_call(
    gateways: Any, model: LanguageModelServer, question: str
) -> None:
    (_, first), (_, second), (_, deaf) = gateways
    streamed = rag_pb2.StreamAskRequest(collection="otters", question=question)
    led = send(first, question)
    wait_until(lambda: model.calls[question] == 1)
    whole = [led, *(send(stub, question) for stub in (first, second, deaf) * 10)]
    streams = [stub.StreamAsk(streamed, timeout=60) for stub in (first, second, deaf) * 5]
    model.release(question)
    replies = [one.result() for one in whole]
    assert {one.answer for one in replies} == {ANSWER}
    assert {one.citations[0].document for one in replies} == {"a"}
    for events in map(list, streams):
        assert "".join(one.delta for one in events) == ANSWER == events[-1].final.answer
    assert model.calls[question] == 1
    wait_until(lambda: send(deaf, question).result().decision.kind == EXACT)
    assert model.calls[question] == 1


def test_a_leader_that_dies_hands_over(
    gateways: Any, model: LanguageModelServer, question: str
) -> None:
    (process, first), (_, second), _ = gateways
    led = send(first, question)
    wait_until(lambda: model.calls[question] == 1)
    followers = [send(second, question) for _ in range(5)]
    process.kill()
    wait_until(lambda: model.calls[question] == 2)
    model.release(question)
    assert {one.result().answer for one in followers} == {ANSWER}
    with pytest.raises(grpc.RpcError):
        led.result()


def test_an_answer_under_way_does_not_survive_a_purge(
    gateways: Any, model: LanguageModelServer, question: str
) -> None:
    (process, first), (_, second), _ = gateways
    cache = cache_pb2_grpc.CacheServiceStub(process.channel)
    scope = cache_pb2.Scope(namespace=str(uuid.uuid4()))
    asked = send(first, question, scope=scope)
    wait_until(lambda: model.calls[question] == 1)
    cache.PurgeEntries(cache_pb2.PurgeEntriesRequest(scope=scope, force=True, all=True))
    later = send(second, question, scope=scope)
    wait_until(lambda: model.calls[question] == 2)
    model.release(question)
    assert asked.result().answer == later.result().answer == ANSWER
    wait_until(lambda: send(first, question, scope=scope).result().decision.kind == EXACT)
    entries = cache.ListEntries(cache_pb2.ListEntriesRequest(scope=scope)).entries
    assert len(entries) == 1
    assert model.calls[question] == 2
