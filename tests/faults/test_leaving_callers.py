"""Callers that leave while the language model is silent: calls that nobody shares end."""

import asyncio
import contextlib
import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, chat_pb2, chat_pb2_grpc
from tests.ports import reserve_port
from tests.service_process import ServiceProcess


class SilentModel:
    """Reads requests over a raw socket and never answers. ``open`` counts the calls by question."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length
            body = json.loads(await reader.readexactly(int(length[1])))
            await self._add(body["messages"][-1]["content"], 1)
            await reader.read()  # until the gateway closes the connection
            await self._add(body["messages"][-1]["content"], -1)
        writer.close()

    async def wait_for(self, question: str, count: int) -> None:
        """Wait until a question has this many open calls."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.open[question] == count)

    async def _add(self, question: str, count: int) -> None:
        async with self._changed:
            self.open[question] += count
            self._changed.notify_all()


@pytest.fixture
async def model() -> AsyncIterator[tuple[SilentModel, str]]:
    one = SilentModel()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    yield one, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


@pytest.fixture
async def gateway(
    redis_url: str, prefix: str, model: tuple[SilentModel, str]
) -> AsyncIterator[ServiceProcess]:
    """A gateway without an embedder and search, which these calls do not need."""
    async with running_gateway(model[1], redis_url, prefix) as one:
        yield one


@pytest.fixture
async def deaf_gateway(model: tuple[SilentModel, str]) -> AsyncIterator[ServiceProcess]:
    """A gateway without Redis, too."""
    async with running_gateway(model[1], f"redis://127.0.0.1:{reserve_port()}", "none:") as one:
        yield one


@contextlib.asynccontextmanager
async def running_gateway(
    model_url: str, redis_url: str, prefix: str
) -> AsyncIterator[ServiceProcess]:
    nobody = f"127.0.0.1:{reserve_port()}"
    settings = {"REDIS_URL": redis_url, "REDIS_PREFIX": prefix}
    settings |= {"EMBEDDER_ADDRESS": nobody, "SEARCH_ADDRESS": nobody}
    one = ServiceProcess("gateway", LLM_BASE_URL=model_url, LLM_MODEL="parrot", **settings)
    try:
        async with grpc.aio.insecure_channel(one.address) as channel, asyncio.timeout(60):
            await channel.channel_ready()
        yield one
    finally:
        await asyncio.to_thread(one.close)


async def by_http(gateway: ServiceProcess, question: str, options: dict[str, Any]) -> None:
    headers = {"Cache-Control": options.pop("cache_control", "")}
    body = {"messages": [{"role": "user", "content": question}], **options}
    url = f"http://{gateway.http_address}/v1/chat/completions"
    async with httpx.AsyncClient(timeout=60) as client:
        await client.post(url, json=body, headers=headers)


async def by_grpc(gateway: ServiceProcess, question: str, options: dict[str, Any]) -> None:
    message = cache_pb2.Message(role="user", content=question)
    cache = chat_pb2.ChatCache(no_store=options.pop("cache_control", "") == "no-store")
    is_streamed = options.pop("stream", False)
    chat = chat_pb2.Chat(messages=[message], cache=cache, further=json.dumps(options))
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        if is_streamed:
            async for _ in stub.StreamComplete(chat_pb2.StreamCompleteRequest(chat=chat)):
                pass
        else:
            await stub.Complete(chat_pb2.CompleteRequest(chat=chat))


async def test_a_call_that_nobody_shares_ends_with_its_caller(
    gateway: ServiceProcess, model: tuple[SilentModel, str]
) -> None:
    alone: list[dict[str, Any]] = [
        {"n": 2},
        {"n": 2, "stream": True},
        {"cache_control": "no-store"},
        {"cache_control": "no-store", "stream": True},
    ]
    for ask in (by_http, by_grpc):
        for options in alone:
            question = f"What is {uuid.uuid4()}?"
            await leave(ask(gateway, question, dict(options)), model[0], question)
            await model[0].wait_for(question, 0)


async def test_a_call_that_others_may_share_goes_on_without_its_caller(
    gateway: ServiceProcess, model: tuple[SilentModel, str]
) -> None:
    question, other = (f"What is {uuid.uuid4()}?" for _ in range(2))
    await leave(by_http(gateway, question, {}), model[0], question)
    # By the time a later call has ended, the first one would have ended, too.
    await leave(by_http(gateway, other, {"n": 2}), model[0], other)
    await model[0].wait_for(other, 0)
    assert model[0].open[question] == 1


async def test_without_redis_a_shared_call_ends_with_its_last_caller(
    deaf_gateway: ServiceProcess, model: tuple[SilentModel, str]
) -> None:
    for options in ({}, {"stream": True}):
        question = f"What is {uuid.uuid4()}?"
        callers = [
            asyncio.create_task(ask(deaf_gateway, question, dict(options)))
            for ask in (by_http, by_grpc, by_http)
        ]
        await model[0].wait_for(question, 1)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await model[0].wait_for(question, 0)


async def leave(call: Any, model: SilentModel, question: str) -> None:
    """Start a call, and leave once the language model has the request."""
    task = asyncio.create_task(call)
    await model.wait_for(question, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
