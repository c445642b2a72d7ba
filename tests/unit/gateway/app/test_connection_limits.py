import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from services.gateway.app import connection_limits, server
from services.gateway.app.connection_limits import LimitedProtocol

REQUEST = b"GET /quick HTTP/1.1\r\nHost: gateway\r\n\r\n"


async def quick(request: Request) -> Response:
    return PlainTextResponse("quick")


async def large(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(512):
            yield bytes(2**16)

    return StreamingResponse(parts())


class Client:
    """A connection that sends what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self) -> bytes:
        self.writer.write(REQUEST)
        return await self.reader.readuntil(b"quick")

    async def end(self) -> bytes:
        """Return what arrives until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                return await self.reader.read()
        return b""


@pytest.fixture
async def http() -> AsyncIterator[server.HttpServer]:
    app = Starlette(routes=[Route("/quick", quick), Route("/large", large)])
    async with server.serve(app, "127.0.0.1", 0) as running:
        yield running


@contextlib.asynccontextmanager
async def connected(http: server.HttpServer) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEADER_TIMEOUT", 0.05)
    monkeypatch.setattr(connection_limits, "STALL_TIMEOUT", 0.05)
    monkeypatch.setattr(connection_limits, "SWEEP_INTERVAL", 0.01)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("sent", [b"", b"GET /quick HTTP/1.1\r\nHost"])
async def test_a_request_that_does_not_arrive_is_answered_with_408(
    http: server.HttpServer, sent: bytes
) -> None:
    async with connected(http) as client:
        client.writer.write(sent)
        assert b" 408 " in await client.end()


@pytest.mark.usefixtures("fast")
async def test_bytes_that_arrive_one_by_one_do_not_prolong_the_wait(
    http: server.HttpServer,
) -> None:
    async with connected(http) as client:
        ended = asyncio.create_task(client.end())
        while not ended.done():
            client.writer.write(b"G")
            await asyncio.wait([ended], timeout=0.005)
        assert b"200" not in ended.result()


@pytest.mark.usefixtures("fast")
async def test_an_idle_connection_is_closed_without_an_answer(http: server.HttpServer) -> None:
    async with connected(http) as client:
        await client.get()
        assert await client.end() == b""


@pytest.mark.usefixtures("fast")
async def test_a_body_that_nobody_reads_is_cut(http: server.HttpServer) -> None:
    async with connected(http) as client:
        head = REQUEST.removesuffix(b"\r\n") + b"Content-Length: 1000000\r\n\r\n"
        client.writer.write(head)
        assert (await client.end()).endswith(b"quick")


@pytest.mark.usefixtures("fast")
async def test_a_client_that_does_not_read_is_cut(http: server.HttpServer) -> None:
    async with connected(http) as client:
        client.writer.write(REQUEST.replace(b"quick", b"large"))
        limits = http.connection_limits
        while not limits.connections:  # noqa: ASYNC110 - a connection has no event
            await asyncio.sleep(0)
        while limits.connections:  # noqa: ASYNC110 - a connection has no event
            await asyncio.sleep(0)
        assert len(await client.end()) < 512 * 2**16


def test_a_client_that_reads_is_not_cut() -> None:
    now, size, flow = 0.0, 10**6, SimpleNamespace(write_paused=True)
    protocol: Any = LimitedProtocol.__new__(LimitedProtocol)
    protocol.loop, protocol.flow = SimpleNamespace(time=lambda: now), flow
    protocol.transport = SimpleNamespace(get_write_buffer_size=lambda: size)
    protocol._stall = None
    assert not protocol.is_stalled()
    for _ in range(3):
        now, size = now + 31, size - 31 * 2048
        assert not protocol.is_stalled()
    flow.write_paused = False
    now += 100
    assert not protocol.is_stalled()
    flow.write_paused = True
    assert not protocol.is_stalled()
    now, size = now + 31, size - 31 * 512
    assert protocol.is_stalled()


@pytest.mark.parametrize("name", ["MAX_CONNECTIONS", "MAX_CONNECTIONS_OF_PEER"])
async def test_the_connection_that_waits_longest_makes_room(
    http: server.HttpServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(connection_limits, name, 2)
    async with connected(http) as first, connected(http) as second:
        await first.get()
        await second.get()
        async with connected(http) as refused:
            assert await refused.end() == b""
        monkeypatch.setattr(connection_limits, "MIN_WAIT", 0.0)
        await first.get()
        async with connected(http) as third:
            await third.get()
            assert await second.end() == b""
            await first.get()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /quick\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: gateway\r\nBad header\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: x\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_answered_in_the_shape_of_openais_api(
    http: server.HttpServer, sent: bytes
) -> None:
    async with connected(http) as client:
        client.writer.write(sent)
        head, _, body = (await client.end()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert json.loads(body)["error"]["code"] == "bad_request"
