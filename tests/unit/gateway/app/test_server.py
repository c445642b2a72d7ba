import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from services import tls
from services.gateway.alarms import Alarms
from services.gateway.app import server
from services.gateway.app.application import application
from services.gateway.auth.keys import ApiKeys
from tests.certificates import Authority

HALF = b"POST /read HTTP/1.1\r\nHost: gateway\r\nContent-Length: 100\r\n\r\nhalf"


class Streaming:
    """An application with a stream that goes on until it is released."""

    def __init__(self) -> None:
        self.released, self.reading = asyncio.Event(), asyncio.Event()

    def routes(self) -> list[Route]:
        return [Route("/stream", self.stream), Route("/read", self.read, methods=["POST"])]

    async def stream(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[str]:
            yield "first "
            await self.released.wait()
            yield "last"

        return StreamingResponse(parts())

    async def read(self, request: Request) -> Response:
        self.reading.set()
        await request.body()
        return PlainTextResponse("read")


async def ready() -> bool:
    return True


@contextlib.asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[tuple[server.HttpServer, httpx.AsyncClient]]:
    async with server.serve(app, "127.0.0.1", 0) as http:
        url = f"http://127.0.0.1:{http.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield http, client


async def refuses_connections(http: server.HttpServer) -> None:
    """Wait until new connections are refused."""
    with contextlib.suppress(ConnectionError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", http.port)
            writer.close()


async def test_readiness_turns_first_and_everything_else_is_still_served() -> None:
    async with serving(application([], ready, ApiKeys(None), Alarms())) as (http, client):
        assert (await client.get("/readyz")).status_code == 200
        http.report_stopping()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


async def test_a_stream_may_end_while_new_connections_are_refused() -> None:
    streaming = Streaming()
    async with (
        serving(Starlette(routes=streaming.routes())) as (http, client),
        client.stream("GET", "/stream") as response,
    ):
        parts = response.aiter_text()
        assert await anext(parts) == "first "
        stopping = asyncio.create_task(http.stop(60.0))
        await refuses_connections(http)
        assert not stopping.done()
        streaming.released.set()
        assert [part async for part in parts] == ["last"]
        await stopping


async def test_a_body_that_is_half_sent_is_cut_when_the_grace_is_over() -> None:
    streaming = Streaming()
    async with serving(Starlette(routes=streaming.routes())) as (http, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
        writer.write(HALF)
        await streaming.reading.wait()
        await http.stop(0.1)
        assert b"200" not in await reader.read()
        writer.close()


async def test_a_connection_without_a_request_does_not_delay_the_stop() -> None:
    async with serving(Starlette()) as (http, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
        writer.write(HALF[:20])
        await writer.drain()
        await http.stop(60.0)
        assert await reader.read() == b""
        writer.close()


async def test_a_stop_without_requests_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with server.serve(Starlette(), "127.0.0.1", 0):
        pass
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_new_certificate_is_shown_and_old_connections_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CHECK_INTERVAL", 0.0)
    authority = Authority(tmp_path)
    trusted = ssl.create_default_context(cafile=authority.files.ca)

    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("localhost", port, ssl=trusted)

    async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return await reader.readuntil(b'{"status":"alive"}')

    app = application([], ready, ApiKeys(None), Alarms())
    async with server.serve(app, "127.0.0.1", 0, authority.server_files) as http:
        old = await connect(http.port)
        authority.replace()
        new = await connect(http.port)
        shown = [
            writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            for _, writer in (old, new)
        ]
        assert shown[0] != shown[1]
        for streams in (old, new):
            assert b"200 OK" in await get(*streams)
            streams[1].close()
        with pytest.raises(httpx.HTTPError):
            await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{http.port}/", trust_env=False)


async def test_a_taken_port_is_refused() -> None:
    async with serving(Starlette()) as (http, _):
        with pytest.raises(OSError, match="in use"):
            async with server.serve(Starlette(), "127.0.0.1", http.port):
                pass
