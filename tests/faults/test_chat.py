"""The chat while something dies: the cache, or the replica that asks the model for all."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, chat_pb2, chat_pb2_grpc
from tests.redis_server import RedisServer
from tests.refusals import refusal
from tests.service_process import ServiceProcess
from tests.stack import Stack, wait_until, wait_until_ready
from tests.upstream import Upstream, running, said

LEASE = 2.0


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as one:
        yield one


@pytest.fixture
def replicas(
    stack: Stack, redis_url: str, prefix: str, upstream: Upstream
) -> Iterator[list[tuple[ServiceProcess, Any]]]:
    """Three gateways as processes of their own, and a stub of each.

    Their answers are fresh for three seconds, and served for a minute more.
    """
    settings = {"REDIS_URL": redis_url, "REDIS_PREFIX": prefix, "CHAT_LEASE": str(LEASE)}
    settings |= {"CACHE_TTL": "3", "CACHE_STALE": "60"}
    settings |= {"LLM_BASE_URL": upstream.url, "LLM_MODEL": "parrot"}
    settings |= {"EMBEDDER_ADDRESS": stack.embedder_address, "SEARCH_ADDRESS": stack.search_address}
    started = [ServiceProcess("gateway", **settings) for _ in range(3)]
    stubs = [(one, chat_pb2_grpc.ChatServiceStub(one.channel)) for one in started]
    for _, stub in stubs:  # warm: connected to all, and heard by all
        wait_until(lambda stub=stub: complete(stub, f"warm {uuid.uuid4()}") == "MISS", 120)
    yield stubs
    for one in started:
        one.close()


def chat(text: str) -> chat_pb2.Chat:
    return chat_pb2.Chat(messages=[cache_pb2.Message(role="user", content=text)])


def complete(stub: Any, text: str) -> str:
    """Ask; return what the cache did."""
    reply = stub.Complete(chat_pb2.CompleteRequest(chat=chat(text)), timeout=30)
    assert reply.message.content == said(text)
    return cache_pb2.DecisionKind.Name(reply.decision.kind).rpartition("_")[2]


def stream(stub: Any, text: str) -> str:
    request = chat_pb2.StreamCompleteRequest(chat=chat(text))
    return "".join(part.delta for part in stub.StreamComplete(request, timeout=30))


def test_a_hundred_callers_of_three_replicas_make_one_call(
    replicas: Any, upstream: Upstream
) -> None:
    text = f"crawl {uuid.uuid4()}"
    with ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(complete, replicas[one % 3][1], text) for one in range(60)]
        asked += [pool.submit(stream, replicas[one % 3][1], text) for one in range(40)]
        answers = {one.result(60) for one in asked}
    assert answers <= {"MISS", "EXACT", said(text)}
    assert upstream.calls[text] == 1


def test_a_leader_that_dies_hands_over_within_a_lease(replicas: Any, upstream: Upstream) -> None:
    text = f"slow {uuid.uuid4()}"
    with ThreadPoolExecutor(8) as pool:
        led = pool.submit(complete, replicas[0][1], text)
        wait_until(lambda: upstream.calls[text] == 1, 10)
        followers = [pool.submit(complete, replicas[one % 2 + 1][1], text) for one in range(6)]
        time.sleep(0.5)
        replicas[0][0].kill()
        assert {one.result(30) for one in followers} == {"MISS"}
        with pytest.raises(grpc.RpcError):
            led.result(30)
    assert upstream.calls[text] == 2


def test_a_hundred_callers_and_a_leader_that_dies_half_way_make_two_calls(
    replicas: Any, upstream: Upstream
) -> None:
    text = f"crawl {uuid.uuid4()}"
    with ThreadPoolExecutor(100) as pool:
        led = pool.submit(complete, replicas[0][1], text)
        wait_until(lambda: upstream.calls[text] == 1, 10)
        followers = [pool.submit(complete, replicas[one % 3][1], text) for one in range(99)]
        time.sleep(2.5)
        replicas[0][0].kill()
        heard = [one.result(60) for at, one in enumerate(followers) if at % 3]
        assert heard == ["MISS"] * 66
        for one in [led, *followers[::3]]:
            with pytest.raises(grpc.RpcError):
                one.result(60)
    assert upstream.calls[text] == 2


def test_a_stale_answer_is_served_by_all_while_one_call_makes_it_anew(
    replicas: Any, upstream: Upstream
) -> None:
    text = f"slow {uuid.uuid4()}"
    stubs = [stub for _, stub in replicas]
    assert complete(stubs[0], text) == "MISS"
    request = chat_pb2.CompleteRequest(chat=chat(text))
    wait_until(lambda: stubs[0].Complete(request).decision.age > 3, 20)
    with ThreadPoolExecutor(30) as pool:
        started = time.monotonic()
        served = list(pool.map(lambda one: complete(stubs[one % 3], text), range(30)))
        assert time.monotonic() - started < 1.5  # nobody waits for the model
    assert served == ["EXACT"] * 30
    wait_until(lambda: stubs[1].Complete(request).decision.age < 3, 20)
    assert upstream.calls[text] == 2
    old = chat_pb2.CompleteRequest(chat=chat(text))
    old.chat.cache.max_age = 3600  # who names an age takes nothing whose time is over
    wait_until(lambda: stubs[2].Complete(request).decision.age > 3, 20)
    assert stubs[2].Complete(old, timeout=30).decision.kind == cache_pb2.DECISION_KIND_MISS


def test_a_stream_that_was_begun_is_aborted_with_a_hint(replicas: Any, upstream: Upstream) -> None:
    text = f"slow {uuid.uuid4()}"
    request = chat_pb2.StreamCompleteRequest(chat=chat(text))
    led = replicas[0][1].StreamComplete(request, timeout=30)
    next(led)
    followed = replicas[1][1].StreamComplete(request, timeout=30)
    next(followed)
    replicas[0][0].kill()

    def rest(_: Any, timeout: float) -> list[Any]:
        return list(followed)

    code, reason, hint = refusal(rest, None)
    assert (code, reason) == (grpc.StatusCode.ABORTED, "LEADER_LOST")
    assert hint is not None
    assert complete(replicas[1][1], text) == "MISS"
    assert upstream.calls[text] == 2


def test_without_redis_the_model_answers_(tmp_path: Any, upstream: Upstream) -> None:
    server = RedisServer(tmp_path)
    own = Stack(server.url, "fault:", llm_base_url=upstream.url, llm_model="parrot")
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
