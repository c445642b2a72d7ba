"""Bodies that are too large or hostile, over a real socket."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.alarms import Alarms
from services.gateway.app import server
from services.gateway.app.application import application
from services.gateway.auth.keys import ApiKeys
from services.gateway.openai.chat import BODY_BYTES, ChatRoutes
from tests.fakes.chat import Chat

START = b'{"messages": [{"role": "user", "content": "Hi?"}], "user": '


async def ready() -> bool:
    return True


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = application(ChatRoutes(Chat().service, 15.0).routes(), ready, ApiKeys(None), Alarms())
    async with server.serve(app, "127.0.0.1", 0) as http:
        url = f"http://127.0.0.1:{http.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as one:
            yield one


async def post(client: httpx.AsyncClient, content: bytes) -> tuple[int, str, str]:
    reply = await client.post("/v1/chat/completions", content=content)
    error = reply.json()["error"]
    return reply.status_code, error["type"], error["code"]


async def test_a_body_up_to_the_limit_is_answered(client: httpx.AsyncClient) -> None:
    end = b'"}'
    content = START + b'"' + b"x" * (BODY_BYTES - len(START) - len(end) - 1) + end
    assert len(content) == BODY_BYTES
    assert (await client.post("/v1/chat/completions", content=content)).status_code == 200


async def test_a_body_above_the_limit_is_too_large(client: httpx.AsyncClient) -> None:
    expected = (413, "invalid_request_error", "body_too_large")
    assert await post(client, b" " * (BODY_BYTES + 1)) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 30_000 + b"]" * 30_000,
        b"[" + b"[]," * 1_000_000 + b"[]]",
        b"[" * 30_000,
        b"1e999",
        b"NaN",
        rb'"\ud800"',
        b'"\xff"',
    ],
    ids=["deep", "many", "open", "infinite", "nan", "surrogate", "latin-1"],
)
async def test_hostile_json_is_the_callers_error(client: httpx.AsyncClient, value: bytes) -> None:
    expected = (400, "invalid_request_error", "bad_json")
    assert await post(client, START + value + b"}") == expected
    assert (await client.get("/healthz")).status_code == 200


async def test_a_refused_body_that_still_arrives_does_no_harm(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 2**16

    with pytest.raises(httpx.TransportError):
        # The gateway answers and closes the connection, so that sending fails.
        await client.post("/v1/chat/completions", content=endless())
    assert (await client.get("/healthz")).status_code == 200
