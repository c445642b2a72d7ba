import asyncio
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.errors import Failure
from services.gateway.http import bodies
from services.gateway.http.body_budget import BodyBudget
from services.gateway.http.errors import handle_failure


async def test_bodies_are_refused_while_others_take_all_bytes() -> None:
    started, released = asyncio.Event(), asyncio.Event()

    async def hold(request: Request) -> Response:
        await bodies.read(request, 100)
        started.set()
        await released.wait()
        return PlainTextResponse("held")

    app = Starlette(
        routes=[Route("/", hold, methods=["POST"])],
        middleware=[Middleware(BodyBudget, has_tenants=False, max_bytes=10)],
        exception_handlers={Failure: handle_failure},
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:

        def post(size: int) -> Any:
            return client.post("/", content=bytes(size))

        first = asyncio.create_task(post(10))
        await started.wait()
        refused = await post(1)
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "TOO_MANY_BYTES")
        assert refused.headers["retry-after"] == "1"
        released.set()
        assert (await first).status_code == 200
        assert (await post(10)).status_code == 200
