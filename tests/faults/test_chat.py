"""The chat while something dies: the cache, or the replica that calls the model for everyone."""

import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, chat_pb2, chat_pb2_grpc
from tests.language_model import LanguageModelServer, quote, running
from tests.redis_server import RedisServer
from tests.refusals import refusal
from tests.service_process import ServiceProcess
from tests.stack import Stack, wait_until, wait_until_ready

LEASE = 2.0


@pytest.fixture
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture
def replicas(
    stack: Stack, redis_url: str, prefix: str, model: LanguageModelServer
) -> Iterator[list[tuple[ServiceProcess, Any]]]:
    """Three gateways, each in its own process, with a stub for each.

    Answers are fresh for three seconds, and served stale for another minute.
    """
    settings = {"REDIS_URL": redis_url, "REDIS_PREFIX": prefix, "CHAT_LEASE": str(LEASE)}
    settings |= {"CACHE_TTL": "3", "CACHE_STALE": "60"}
    settings |= {"LLM_BASE_URL": model.url, "LLM_MODEL": "parrot"}
    settings |= {"EMBEDDER_ADDRESS": stack.embedder_address, "SEARCH_ADDRESS": stack.search_address}
    started = [ServiceProcess("gateway", **settings) for _ in range(3)]
    stubs = [(one, chat_pb2_grpc.ChatServiceStub(one.channel)) for one in started]
    for _, stub in stubs:  # warm: every gateway has connected to its backends
        wait_until(lambda stub=stub: complete(stub, f"warm {uuid.uuid4()}") == "MISS", 120)
    yield stubs
    for one in started:
        one.close()


@pytest.fixture
def text(model: LanguageModelServer) -> str:
    """A question that the model answers when it is released."""
    question = f"What is {uuid.uuid4()}?"
    model.hold(question)
    return question


def chat(text: str) -> chat_pb2.Chat:
    return chat_pb2.Chat(messages=[cache_pb2.Message(role="user", content=text)])


def complete(stub: Any, text: str) -> str:
    """Ask a question and return the cache's decision."""
    return kind(send(stub, text), text)


def send(stub: Any, text: str) -> Any:
    """Ask without waiting for the reply."""
    return stub.Complete.future(chat_pb2.CompleteRequest(chat=chat(text)), timeout=60)


def kind(sent: Any, text: str) -> str:
    """Wait for the reply and return the cache's decision."""
    reply = sent.result()
    assert reply.message.content == quote(text)
    return cache_pb2.DecisionKind.Name(reply.decision.kind).rpartition("_")[2]


def test_a_hundred_callers_of_three_replicas_make_one_call(
    replicas: Any, model: LanguageModelServer, text: str
) -> None:
    streamed = chat_pb2.StreamCompleteRequest(chat=chat(text))
    whole = [send(replicas[one % 3][1], text) for one in range(60)]
    streams = [replicas[one % 3][1].StreamComplete(streamed, timeout=60) for one in range(40)]
    wait_until(lambda: model.calls[text] == 1)
    model.release(text)
    # A late caller is served from the cache, by whichever tier has the answer first.
    assert {kind(one, text) for one in whole} <= {"MISS", "EXACT", "SEMANTIC"}
    assert {"".join(part.delta for part in one) for one in streams} == {quote(text)}
    assert model.calls[text] == 1


@pytest.mark.parametrize("callers", [6, 99])
def test_a_leader_that_dies_hands_over_to_one_of_its_followers(
    replicas: Any, model: LanguageModelServer, text: str, callers: int
) -> None:
    led = send(replicas[0][1], text)
    wait_until(lambda: model.calls[text] == 1)
    with_leader = [send(replicas[0][1], text) for _ in range(callers // 3)]
    followers = [send(replicas[one % 2 + 1][1], text) for one in range(callers - callers // 3)]
    replicas[0][0].kill()
    wait_until(lambda: model.calls[text] == 2)
    model.release(text)
    assert {kind(one, text) for one in followers} == {"MISS"}
    for one in [led, *with_leader]:
        with pytest.raises(grpc.RpcError):
            one.result()
    assert model.calls[text] == 2


def test_a_stale_answer_is_served_by_all_while_one_call_replaces_it(
    replicas: Any, model: LanguageModelServer
) -> None:
    text = f"What is {uuid.uuid4()}?"
    stubs = [stub for _, stub in replicas]
    request = chat_pb2.CompleteRequest(chat=chat(text))
    assert complete(stubs[0], text) == "MISS"
    model.hold(text)
    wait_until(lambda: stubs[0].Complete(request).decision.age > 3, 20)
    served = [send(stubs[one % 3], text) for one in range(30)]
    assert [kind(one, text) for one in served] == ["EXACT"] * 30  # nobody waits for the model
    wait_until(lambda: model.calls[text] == 2)
    model.answer = lambda body: "Another answer."
    model.release(text)
    wait_until(lambda: stubs[1].Complete(request).message.content == "Another answer.", 20)
    assert model.calls[text] == 2


def test_a_caller_that_names_an_age_is_served_nothing_stale(
    replicas: Any, model: LanguageModelServer
) -> None:
    text = f"What is {uuid.uuid4()}?"
    stub = replicas[0][1]
    request = chat_pb2.CompleteRequest(chat=chat(text))
    assert complete(stub, text) == "MISS"
    model.hold(text)
    wait_until(lambda: stub.Complete(request).decision.age > 3, 20)
    request.chat.cache.max_age = 3600
    sent = stub.Complete.future(request, timeout=60)
    wait_until(lambda: model.calls[text] == 3)  # the first, the one that replaces it, and ours
    model.release(text)
    # On a slow machine, ours may find the answer that has replaced the stale one in between.
    assert kind(sent, text) == "MISS" or sent.result().decision.age < 3


def test_a_stream_that_has_begun_is_aborted_with_a_hint(
    replicas: Any, model: LanguageModelServer, text: str
) -> None:
    request = chat_pb2.StreamCompleteRequest(chat=chat(text))
    led = replicas[0][1].StreamComplete(request, timeout=60)
    next(led)
    followed = replicas[1][1].StreamComplete(request, timeout=60)
    next(followed)
    replicas[0][0].kill()

    def rest(_: Any, timeout: float) -> list[Any]:
        return list(followed)

    code, reason, hint = refusal(rest, None)
    assert (code, reason) == (grpc.StatusCode.ABORTED, "LEADER_LOST")
    assert hint is not None
    model.release(text)
    assert complete(replicas[1][1], text) == "MISS"
    assert model.calls[text] == 2


def test_without_redis_the_model_answers_(tmp_path: Any, model: LanguageModelServer) -> None:
    server = RedisServer(tmp_path)
    own = Stack(server.url, "fault:", llm_base_url=model.url, llm_model="parrot")
    try:
        wait_until_ready(own)
        stub = chat_pb2_grpc.ChatServiceStub(own.gateway)
        assert complete(stub, "one") == "MISS"
        wait_until(lambda: complete(stub, "one") == "EXACT", 10)
        server.kill()
        assert {complete(stub, f"{one}") for one in range(5)} == {"BYPASS"}
        assert complete(stub, "one") == "BYPASS"
        url = f"http://{own.http_address}/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": "one"}]}
        assert httpx.post(url, json=body).headers["x-memetwin-cache"] == "bypass"
        server.start()
        wait_until(lambda: complete(stub, "one") in ("MISS", "EXACT"), 20)
    finally:
        own.close()
        server.stop()
