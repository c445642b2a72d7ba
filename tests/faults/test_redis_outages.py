"""Chats on three gateways while their Redis is paused, or dies and comes back, under load."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import chat_pb2, chat_pb2_grpc
from tests.faults.test_fail_open import kind_of, send
from tests.faults.test_lossy_redis import is_ready, listen, request
from tests.language_model import LanguageModelServer, quote, running
from tests.ports import reserve_port
from tests.redis_server import RedisServer
from tests.service_process import ServiceProcess
from tests.stack import wait_until

REPLICAS, CALLERS = 3, 60
# Streams of a round, which all three gateways share, and rounds.
ROUND, ROUNDS = 15, 8


@pytest.fixture
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.resume()
    server.stop()


@pytest.fixture
def gateways(redis: RedisServer, model: LanguageModelServer) -> Iterator[list[ServiceProcess]]:
    """Three gateways without an embedder and search, so only the exact tier works."""
    nobody = f"127.0.0.1:{reserve_port()}"
    settings = {"REDIS_URL": redis.url, "REDIS_PREFIX": f"outage-{uuid.uuid4()}:"}
    settings |= {"EMBEDDER_ADDRESS": nobody, "SEARCH_ADDRESS": nobody, "CHAT_LEASE": "2"}
    settings |= {"LLM_BASE_URL": model.url, "LLM_MODEL": "parrot"}
    started = [ServiceProcess("gateway", **settings) for _ in range(REPLICAS)]
    for one in started:
        stub = chat_pb2_grpc.ChatServiceStub(one.channel)
        wait_until(lambda stub=stub: is_ready(stub), 120)
    yield started
    for one in started:
        one.close()


def stubs_of(gateways: list[ServiceProcess]) -> list[Any]:
    return [chat_pb2_grpc.ChatServiceStub(one.channel) for one in gateways]


def beginning(stream: Any) -> str:
    """Wait for the first words of a stream."""
    return str(next(part.delta for part in stream if part.delta))


def unknown() -> str:
    return f"What is {uuid.uuid4()}?"


def test_a_paused_redis_makes_no_stampede(
    gateways: list[ServiceProcess], model: LanguageModelServer, redis: RedisServer
) -> None:
    stubs = stubs_of(gateways)
    redis.pause()
    for text in (unknown(), unknown()):  # the breakers are closed for the first, then open
        model.hold(text)
        asked = request(text, chat_pb2.StreamCompleteRequest)
        streams = [
            stubs[number % REPLICAS].StreamComplete(asked, timeout=60) for number in range(CALLERS)
        ]
        beginnings = [beginning(one) for one in streams]  # now all callers have joined a call
        model.release(text)
        rests = ["".join(part.delta for part in one) for one in streams]
        assert set(map(str.__add__, beginnings, rests)) == {quote(text)}
        assert model.calls[text] == REPLICAS
    redis.resume()
    text = unknown()
    for stub in stubs:
        wait_until(lambda stub=stub: kind_of(send(stub, text).result()) == "EXACT", 30)


def test_a_redis_that_freezes_during_a_call_costs_its_callers_nothing(
    gateways: list[ServiceProcess], model: LanguageModelServer, redis: RedisServer
) -> None:
    stubs, text = stubs_of(gateways), unknown()
    model.hold(text)
    led = [send(stubs[0], text) for _ in range(CALLERS)]
    wait_until(lambda: model.calls[text] == 1)
    send(stubs[0], unknown()).result()  # by now all callers have joined the call
    redis.pause()
    model.release(text)
    assert {one.result(timeout=20).message.content for one in led} == {quote(text)}
    assert model.calls[text] == 1


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_streams_are_whole_or_end_with_an_error(
    gateways: list[ServiceProcess], model: LanguageModelServer, redis: RedisServer, how: str
) -> None:
    model.delay = 0.3  # followers read what is published before the end of the stream
    channels = [grpc.aio.insecure_channel(one.address) for one in gateways]
    stubs: list[Any] = [chat_pb2_grpc.ChatServiceStub(channel) for channel in channels]
    outcomes: Counter[str] = Counter()

    async def ask(question: str) -> None:
        outcomes.update(await asyncio.gather(*(listen(stub, question) for stub in stubs)))

    async def load() -> None:
        for _ in range(ROUNDS):
            await asyncio.gather(*(ask(unknown()) for _ in range(ROUND // REPLICAS)))

    async def ended(streams: int) -> None:
        """Wait until this many more streams have ended."""
        count = sum(outcomes.values()) + streams
        await asyncio.to_thread(
            wait_until, lambda: loading.done() or sum(outcomes.values()) >= count, 60
        )

    loading = asyncio.create_task(load())
    await ended(2 * ROUND)
    await asyncio.to_thread(redis.pause if how == "paused" else redis.kill)
    await ended(2 * ROUND)
    await asyncio.to_thread(redis.resume if how == "paused" else redis.start)
    await loading
    for channel in channels:
        await channel.close()
    assert outcomes["cut"] == 0
    assert outcomes["whole"] > ROUNDS * ROUND / 2
    text = unknown()
    for stub in stubs_of(gateways):
        await asyncio.to_thread(
            wait_until, lambda stub=stub: kind_of(send(stub, text).result()) == "EXACT", 30
        )
