"""The gateway's HTTP application: the page, every feature's routes, health and metrics."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.errors import Failure
from services.gateway.auth import ApiKeys
from services.gateway.http.errors import handle_failure, handle_timeout
from services.gateway.http.middleware import Authentication, SecurityHeaders

STATIC = Path(__file__).parent / "static"
Ready = Callable[[], Awaitable[bool]]


def application(features: Sequence[BaseRoute], ready: Ready, keys: ApiKeys) -> Starlette:
    """Return the ASGI application; ``features`` are the routes of the gateway's features."""
    return Starlette(
        routes=[
            Route("/", _page("index.html")),
            Route("/cache", _page("cache.html")),
            Mount("/pages", StaticFiles(directory=STATIC)),
            *features,
            Route("/healthz", _alive),
            Route("/readyz", _readiness(ready)),
            Route("/metrics", _metrics),
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(Authentication, keys)],
        exception_handlers={Failure: handle_failure, TimeoutError: handle_timeout},
    )


def _page(file: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return FileResponse(STATIC / file)

    return page


async def _alive(request: Request) -> Response:
    return JSONResponse({"status": "alive"})


def _readiness(ready: Ready) -> Callable[[Request], Awaitable[Response]]:
    async def readiness(request: Request) -> Response:
        with contextlib.suppress(Exception):
            if await asyncio.wait_for(ready(), 2.0):
                return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, status_code=503)

    return readiness


async def _metrics(request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
