"""2,000 streams: the model's server cuts each at a random byte, or the caller leaves.

The cuts are drawn from a seed, so that a failure can be repeated.
"""

import asyncio
import contextlib
import json
import random
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, chat_pb2, chat_pb2_grpc
from tests.stack import Stack, wait_until_ready

STREAMS, MAX_CONCURRENT = 2000, 16
SEED = 2026
WORDS = ["Zwölf ", "große ", "🦊🦊 ", "jump ", "over ", "“", "", "”", " – ", "again", "."]
RANDOM = random.Random(SEED)
RUN = uuid.uuid4().hex[:8]


def whole(question: str) -> str:
    return "".join(word or question for word in WORDS)


class Model:
    """Streams answers over a raw socket. ``cuts`` sets after how many bytes the first call ends."""

    def __init__(self) -> None:
        self.cuts: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()
        self.open -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length
        body = json.loads(await reader.readexactly(int(length[1])))
        question = body["messages"][-1]["content"]
        self.calls[question] += 1
        left = self.cuts.pop(question, None)
        for part in parts(question):
            writer.write(part[:left])
            await writer.drain()
            await asyncio.sleep(RANDOM.uniform(0, 0.004))
            if left is not None and (left := left - len(part)) <= 0:
                if RANDOM.random() < 0.5:
                    writer.transport.abort()
                return


def parts(question: str) -> Iterator[bytes]:
    """Yield the response as it is written, even if only the end of the connection ends it."""
    framed = len(question) % 2 == 0
    how = "Transfer-Encoding: chunked" if framed else "X-Ends: with the connection"
    head = ["HTTP/1.1 200 OK", "Connection: close", "Content-Type: text/event-stream", how]
    yield "\r\n".join([*head, "", ""]).encode()
    base = {"id": "1", "created": 1, "model": "parrot", "object": "chat.completion.chunk"}
    events: list[Any] = [{"content": word or question} for word in WORDS]
    for delta in [{"role": "assistant", "content": ""}, *events, {}]:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        yield event(json.dumps({**base, "choices": [choice]}, ensure_ascii=False), framed)
    yield event("[DONE]", framed)
    yield b"0\r\n\r\n" if framed else b""


def event(data: str, framed: bool) -> bytes:
    line = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(line), line) if framed else line


class Caller:
    """One of the streams: who cuts it, over which API it goes, and whether others may share it."""

    def __init__(self, number: int) -> None:
        self.question = f"{RUN} {number}"
        self.by_model, self.fresh, self.over_http = number & 1, number & 2, number & 4
        self.namespace = self.question  # unique, so that no other question is near
        self.leaves = 10**6 if self.by_model else RANDOM.randint(1, len(WORDS))
        self.heard = 0

    @property
    def stays(self) -> bool:
        """Whether the answer is written to its end, because others may wait for it."""
        return not self.by_model and not self.fresh

    @property
    def scope(self) -> cache_pb2.Scope:
        return cache_pb2.Scope(namespace=self.namespace)

    async def ask(self, stub: Any, client: httpx.AsyncClient) -> bool:
        """Listen until the stream ends or the caller leaves; return whether an error came."""
        return await (self._by_http(client) if self.over_http else self._by_grpc(stub))

    async def _by_grpc(self, stub: Any) -> bool:
        call = stub.StreamComplete(self.request(), timeout=60)
        try:
            async for _ in call:
                self.heard += 1
                if self.heard == self.leaves:
                    call.cancel()
                    return False
        except grpc.aio.AioRpcError as error:
            return error.code() == grpc.StatusCode.UNAVAILABLE
        return False

    async def _by_http(self, client: httpx.AsyncClient) -> bool:
        headers = {"X-Memetwin-Namespace": self.namespace}
        headers |= {"Cache-Control": "no-cache"} if self.fresh else {}
        body = {"stream": True, "messages": [{"role": "user", "content": self.question}]}
        async with client.stream("POST", "chat/completions", json=body, headers=headers) as reply:
            async for line in reply.aiter_lines():
                if "error" in line:
                    return True
                self.heard += line.startswith("data:")
                if self.heard == self.leaves:
                    return False
        return False

    def request(self, **cache: bool) -> chat_pb2.StreamCompleteRequest:
        message = cache_pb2.Message(role="user", content=self.question)
        controls = chat_pb2.ChatCache(**(cache or {"no_cache": bool(self.fresh)}))
        chat = chat_pb2.Chat(messages=[message], scope=self.scope, cache=controls)
        return chat_pb2.StreamCompleteRequest(chat=chat)


@pytest.fixture
async def model() -> AsyncIterator[tuple[Model, str]]:
    one = Model()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    yield one, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


@pytest.fixture
async def chatting(redis_url: str, prefix: str, model: tuple[Model, str]) -> AsyncIterator[Stack]:
    def start() -> Stack:
        stack = Stack(redis_url, prefix, llm_base_url=model[1], llm_model="parrot")
        wait_until_ready(stack)
        return stack

    stack = await asyncio.to_thread(start)
    yield stack
    await asyncio.to_thread(stack.close)


async def test_no_partial_answer_is_cached(chatting: Stack, model: tuple[Model, str]) -> None:
    callers = [Caller(number) for number in range(STREAMS)]
    for one in callers:
        if one.by_model:
            end = b"".join(parts(one.question)).index(b"[DONE]") + len("[DONE]")
            model[0].cuts[one.question] = RANDOM.randrange(1, end)
    base = f"http://{chatting.http_address}/v1/"
    async with (
        grpc.aio.insecure_channel(chatting.gateway_address) as channel,
        httpx.AsyncClient(base_url=base, timeout=60) as client,
    ):
        chat: Any = chat_pb2_grpc.ChatServiceStub(channel)
        cache: Any = cache_pb2_grpc.CacheServiceStub(channel)
        saw_errors = await run_limited(callers, lambda one: one.ask(chat, client))
        assert [bool(one.by_model) for one in callers] == saw_errors
        await no_open_streams(model[0])
        bypassed = await bypasses(client)
        await nothing_lost(cache, [one for one in callers if one.stays], bypassed)
        cached = await run_limited(callers, lambda one: entries(cache, one))
        for one, answers in zip(callers, cached, strict=True):
            assert answers in ([], [whole(one.question)])
            assert not (one.by_model and answers)
        served = [one for one, answers in zip(callers, cached, strict=True) if answers]
        replayed = await run_limited(served, lambda one: replay(chat, one))
        assert replayed == [whole(one.question) for one in served]
    assert max(model[0].calls.values()) == 1


async def run_limited(callers: list[Caller], ask: Any) -> list[Any]:
    """Run an action for several callers at the same time; return the outcome of each."""
    slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def one_of(caller: Caller) -> Any:
        async with slots:
            return await ask(caller)

    return await asyncio.gather(*map(one_of, callers))


async def no_open_streams(model: Model) -> None:
    """Wait until the model has finished all answers."""
    async with asyncio.timeout(30):
        while model.open:  # noqa: ASYNC110 - the model counts in this loop, and seldom stands still
            await asyncio.sleep(0.05)


async def bypasses(client: httpx.AsyncClient) -> int:
    """Return how many requests bypassed the cache, because this machine was too slow for it."""
    metrics = (await client.get(str(client.base_url.join("/metrics")))).text
    found = re.search(r'^memetwin_cache_decisions_total{kind="bypass"} (\S+)', metrics, re.M)
    return int(float(found[1])) if found else 0


async def nothing_lost(cache: Any, callers: list[Caller], bypassed: int) -> None:
    """Wait until all answers are in the cache, except those that have bypassed it."""
    async with asyncio.timeout(60):
        while True:
            cached = await run_limited(callers, lambda one: entries(cache, one))
            if cached.count([]) <= bypassed:
                return
            await asyncio.sleep(0.5)


async def entries(cache: Any, caller: Caller) -> list[str]:
    page = await cache.ListEntries(cache_pb2.ListEntriesRequest(scope=caller.scope), timeout=30)
    return [entry.response for entry in page.entries]


async def replay(chat: Any, caller: Caller) -> str:
    parts = [part async for part in chat.StreamComplete(caller.request(no_cache=False), timeout=30)]
    assert parts[-1].final.decision.kind == cache_pb2.DECISION_KIND_EXACT
    return "".join(part.delta for part in parts)
