import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from services import deadlines
from services.errors import NotFound
from services.gateway.openai.routing import Handler, openai_route


async def get(handler: Handler) -> httpx.Response:
    transport = httpx.ASGITransport(Starlette(routes=[openai_route("/v1/one", handler, "GET")]))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/v1/one")


async def test_a_failure_is_reported_in_openais_shape() -> None:
    async def handler(request: Request) -> Response:
        raise NotFound("GONE", "It is gone.", field="id")

    reply = await get(handler)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "gone")


async def test_a_request_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(deadlines, "LONG_DEADLINE", 0.01)
    reply = await get(handler)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
