"""Two replicas under load, while their file of API keys changes."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, chat_pb2, chat_pb2_grpc
from services.cli.key_changes import add, remove
from services.key_file import sha256
from tests.language_model import LanguageModelServer, running
from tests.refusals import read_refusal
from tests.service_process import ServiceProcess

WITHIN = 5.0  # seconds
PERIOD = 0.04  # seconds between the calls of one key to one replica: 100 a second in all
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, "UNKNOWN_API_KEY")


def row(key: str) -> dict[str, Any]:
    return {"sha256": sha256(key), "tenant": "acme"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    for key in ("kept", "doomed"):
        add(path, row(key))
    return path


@pytest.fixture
def model() -> Iterator[LanguageModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def replicas(
    redis_url: str, prefix: str, file: Path, model: LanguageModelServer
) -> Iterator[list[ServiceProcess]]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(2):
            one = ServiceProcess(
                "gateway",
                REDIS_URL=redis_url,
                REDIS_PREFIX=f"{prefix}{uuid.uuid4()}:",
                API_KEYS_FILE=str(file),
                LLM_BASE_URL=model.url,
                LLM_MODEL="p",
                EMBEDDER_ADDRESS="127.0.0.1:1",
                SEARCH_ADDRESS="127.0.0.1:1",
            )
            stack.callback(one.close)
            found.append(one)
        for one in found:
            grpc.channel_ready_future(one.channel).result(60)
        yield found


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@dataclass
class Load:
    """Calls one replica with one key repeatedly, and keeps the outcomes in order."""

    address: str
    key: str
    outcomes: list[tuple[Any, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, outcome: tuple[Any, str]) -> None:
        while not self.outcomes or self.outcomes[-1] != outcome:
            self.changed.clear()
            await self.changed.wait()

    async def _run(self) -> None:
        async with grpc.aio.insecure_channel(self.address) as channel, asyncio.TaskGroup() as calls:
            stub: Any = cache_pb2_grpc.CacheServiceStub(channel)
            while True:
                calls.create_task(self._call(stub))
                await asyncio.sleep(PERIOD)

    async def _call(self, stub: Any) -> None:
        request = cache_pb2.LookupEntryRequest(prompt="Who?", mode=cache_pb2.LOOKUP_MODE_EXACT)
        outcome: tuple[Any, str] = grpc.StatusCode.OK, ""
        try:
            await stub.LookupEntry(request, metadata=bearer(self.key), timeout=30)
        except grpc.aio.AioRpcError as error:
            outcome = read_refusal(error)[:2]
        self.outcomes.append(outcome)
        self.changed.set()


OK = (grpc.StatusCode.OK, "")


async def test_a_revoked_key_is_refused_and_no_other_call_fails(
    replicas: list[ServiceProcess], file: Path
) -> None:
    loads = {key: [Load(one.address, key) for one in replicas] for key in ("kept", "doomed", "new")}
    async with contextlib.AsyncExitStack() as stack:
        for key in ("kept", "doomed"):
            for load in loads[key]:
                await stack.enter_async_context(load.running())
                await load.until(OK)
        await asyncio.to_thread(remove, file, sha256("doomed")[:8])
        async with asyncio.timeout(WITHIN):
            for load in loads["doomed"]:
                await load.until(REFUSED)
        await asyncio.to_thread(add, file, row("new"))
        for load in loads["new"]:
            await stack.enter_async_context(load.running())
        async with asyncio.timeout(WITHIN):
            for load in loads["new"]:
                await load.until(OK)
        # A broken file changes nothing, and SIGHUP ends nobody.
        await asyncio.to_thread(file.write_text, "[")
        for one in replicas:
            os.kill(one.pid, signal.SIGHUP)
        for load in (*loads["kept"], *loads["new"]):
            load.outcomes.clear()
            await load.until(OK)
    assert {outcome for load in loads["kept"] for outcome in load.outcomes} == {OK}
    assert {outcome for load in loads["new"] for outcome in load.outcomes} == {OK}
    for load in loads["doomed"]:
        first = load.outcomes.index(REFUSED)
        assert set(load.outcomes[:first]) == {OK}
        assert set(load.outcomes[first:]) == {REFUSED}


async def test_the_streams_of_a_revoked_key_end_and_those_of_others_do_not(
    replicas: list[ServiceProcess], file: Path, model: LanguageModelServer
) -> None:
    questions = {key: f"{key} {uuid.uuid4()}" for key in ("kept", "doomed", "over HTTP")}
    for question in questions.values():
        model.hold(question)
    address = replicas[0].address
    async with grpc.aio.insecure_channel(address) as channel, httpx.AsyncClient() as client:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        streams = {
            key: stub.StreamComplete(chat(questions[key]), metadata=bearer(key), timeout=120)
            for key in ("kept", "doomed")
        }
        for stream in streams.values():
            await stream.read()
        body = {"stream": True, "messages": [{"role": "user", "content": questions["over HTTP"]}]}
        url = f"http://{replicas[0].http_address}/v1/chat/completions"
        async with client.stream(
            "POST", url, json=body, headers=dict(bearer("doomed")), timeout=120
        ) as response:
            parts = response.aiter_bytes()
            assert await anext(parts)
            await asyncio.to_thread(remove, file, sha256("doomed")[:8])
            async with asyncio.timeout(WITHIN):
                assert await refusal_of(streams["doomed"]) == "API_KEY_REVOKED"
                with pytest.raises(httpx.RemoteProtocolError):
                    async for _ in parts:
                        pass
        for question in questions.values():
            model.release(question)
        assert (await collect(streams["kept"]))[-1].HasField("final")


def chat(question: str) -> chat_pb2.StreamCompleteRequest:
    message = cache_pb2.Message(role="user", content=question)
    return chat_pb2.StreamCompleteRequest(chat=chat_pb2.Chat(messages=[message]))


async def collect(stream: Any) -> list[Any]:
    found = []
    while (response := await stream.read()) is not grpc.aio.EOF:
        found.append(response)
    return found


async def refusal_of(stream: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(stream)
    return read_refusal(caught.value)[1]
