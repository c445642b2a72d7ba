"""Streams that replicas share through a randomly failing Redis have every word, or an error."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import cache_pb2, chat_pb2, chat_pb2_grpc
from tests import flaky_redis
from tests.language_model import LanguageModelServer, quote, running
from tests.ports import reserve_port
from tests.service_process import ServiceProcess
from tests.stack import wait_until

SEED = 2026
REPLICAS, MAX_CONCURRENT = 3, 12
ERRORS = {grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE}


@pytest.mark.parametrize(
    ("streams", "share"),
    [(150, 0.05), pytest.param(2000, 0.01, marks=pytest.mark.long)],
)
async def test_a_follower_gets_the_whole_text_or_an_error(
    redis_url: str, prefix: str, streams: int, share: float
) -> None:
    with running() as model:
        model.delay = 0.15  # followers read what is published before the end of the stream
        async with flaky_redis.running(redis_url, 0.0, SEED) as redis:
            gateways = await asyncio.to_thread(start, redis.url, prefix, model)
            try:
                redis.share = share
                outcomes = await ask_all([one.address for one in gateways], streams)
            finally:
                redis.share = 0.0
                for gateway in gateways:
                    await asyncio.to_thread(gateway.close)
    assert outcomes["cut"] == 0
    assert outcomes["whole"] > streams / 2
    assert redis.failures > 0
    # Without followers each stream would have made its own call.
    assert sum(model.calls.values()) < streams * 0.9


def start(redis_url: str, prefix: str, model: LanguageModelServer) -> list[ServiceProcess]:
    """Start gateways without an embedder and search, which shared streams do not need."""
    settings = {"REDIS_URL": redis_url, "REDIS_PREFIX": f"{prefix}lossy-{uuid.uuid4()}:"}
    settings |= {"LLM_BASE_URL": model.url, "LLM_MODEL": "parrot", "CHAT_LEASE": "2"}
    nobody = f"127.0.0.1:{reserve_port()}"
    settings |= {"EMBEDDER_ADDRESS": nobody, "SEARCH_ADDRESS": nobody}
    gateways = [ServiceProcess("gateway", **settings) for _ in range(REPLICAS)]
    for gateway in gateways:
        stub = chat_pb2_grpc.ChatServiceStub(gateway.channel)
        wait_until(lambda stub=stub: is_ready(stub), 120)
    return gateways


def is_ready(stub: Any) -> bool:
    try:
        return bool(stub.Complete(request(str(uuid.uuid4()), chat_pb2.CompleteRequest), timeout=30))
    except grpc.RpcError:
        return False


def request(question: str, kind: Any) -> Any:
    message = cache_pb2.Message(role="user", content=question)
    scope = cache_pb2.Scope(namespace=question)  # so that no other question is near
    return kind(chat=chat_pb2.Chat(messages=[message], scope=scope))


async def ask_all(addresses: list[str], streams: int) -> Counter[str]:
    """Ask each question on all replicas at the same time, and count how the streams end."""
    channels = [grpc.aio.insecure_channel(address) for address in addresses]
    stubs: list[Any] = [chat_pb2_grpc.ChatServiceStub(channel) for channel in channels]
    slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def ask(question: str) -> list[str]:
        async with slots:
            return await asyncio.gather(*(listen(stub, question) for stub in stubs))

    questions = [str(uuid.uuid4()) for _ in range(streams // REPLICAS)]
    outcomes = [one for ends in await asyncio.gather(*map(ask, questions)) for one in ends]
    for channel in channels:
        await channel.close()
    return Counter(outcomes)


async def listen(stub: Any, question: str) -> str:
    """Return how a stream ends: ``whole``, ``error``, or ``cut`` if text is missing."""
    text = ""
    try:
        async for part in stub.StreamComplete(
            request(question, chat_pb2.StreamCompleteRequest), timeout=60
        ):
            text += part.delta
    except grpc.aio.AioRpcError as error:
        if error.code() not in ERRORS:
            raise
        return "error" if quote(question).startswith(text) else "cut"
    return "whole" if text == quote(question) else "cut"
