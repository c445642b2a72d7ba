"""The gateway's HTTP application: web pages, the features' routes, probes and metrics."""

import asyncio
import contextlib
import html
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.errors import Failure
from services.gateway.alarms import Alarms
from services.gateway.app.unknown_routes import handle_http_exception
from services.gateway.auth.keys import ApiKeys
from services.gateway.http.body_budget import BodyBudget
from services.gateway.http.browsers import BrowserGuard
from services.gateway.http.cors import Cors
from services.gateway.http.errors import handle_failure, handle_timeout
from services.gateway.http.middleware import Authentication, SecurityHeaders
from services.gateway.http.request_ids import RequestIds

STATIC = Path(__file__).parent / "static"
PAGES = {"/": "index.html", "/ask": "ask.html", "/cache": "cache.html", "/talk": "talk.html"}
READINESS_TIMEOUT = 2.0
_HANDLERS: dict[Any, Any] = {
    Failure: handle_failure,
    TimeoutError: handle_timeout,
    HTTPException: handle_http_exception,
}
Ready = Callable[[], Awaitable[bool]]


def application(  # noqa: PLR0913 - wired once
    routes: Sequence[BaseRoute],
    is_ready: Ready,
    keys: ApiKeys,
    alarms: Alarms,
    allowed_hosts: frozenset[str] = frozenset(),
    *,
    cors_origins: frozenset[str] = frozenset(),
) -> Starlette:
    """Return the ASGI application.

    Args:
        routes: the routes of the gateway's features.
        is_ready: returns what ``/readyz`` reports. An exception means no.
        keys: authenticates the callers.
        alarms: what ``/readyz`` shows beside the status.
        allowed_hosts: public names of the server, which matter while no keys are required.
        cors_origins: origins whose pages may call the API from a browser.
    """
    middleware = [Middleware(SecurityHeaders)]
    if cors_origins:  # outside of the authentication, because a preflight request has no key
        middleware.append(Middleware(Cors, cors_origins))
    middleware.append(Middleware(RequestIds))
    middleware.append(Middleware(Authentication, keys))
    middleware.append(Middleware(BodyBudget, has_tenants=keys.are_required))
    if not keys.are_required:
        middleware.append(Middleware(BrowserGuard, allowed_hosts, cors_origins))
        routes = [*routes, Route("/metrics", _metrics)]
    return Starlette(
        routes=[
            *(Route(path, _page(path, file)) for path, file in PAGES.items()),
            Mount("/pages", GZipMiddleware(PageFiles(directory=STATIC))),
            *routes,
            Route("/healthz", _liveness),
            Route("/readyz", _readiness(is_ready, alarms)),
        ],
        middleware=middleware,
        exception_handlers=_HANDLERS,
    )


class PageFiles(StaticFiles):
    """The files of the pages. A browser asks whether a script has changed, and keeps the rest."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file, or 304 if the browser has it."""
        response = super().file_response(*args, **options)
        is_code = Path(args[0]).suffix in {".js", ".css", ".html"}
        response.headers["Cache-Control"] = "no-cache" if is_code else "public, max-age=604800"
        return response


def _page(path: str, file: str) -> Callable[[Request], Awaitable[Response]]:
    current = f'href="{path}"'
    header = (STATIC / "header.html").read_text()
    header = header.replace(f"<a {current}", f'<a {current} aria-current="page"')
    text = (STATIC / file).read_text().replace("  <!-- header -->\n", header)

    async def page(request: Request) -> Response:
        # Other sites show the preview picture beside links. They need its whole address.
        base = html.escape(str(request.base_url))
        content = text.replace('content="/pages/', f'content="{base}pages/')
        return HTMLResponse(content, headers={"Cache-Control": "no-cache"})

    return page


async def _liveness(request: Request) -> Response:
    return JSONResponse({"status": "alive"})


def _readiness(is_ready: Ready, alarms: Alarms) -> Callable[[Request], Awaitable[Response]]:
    async def readiness(request: Request) -> Response:
        if getattr(request.app.state, "is_stopping", False):
            return reply("stopping", 503)
        with contextlib.suppress(Exception):
            if await asyncio.wait_for(is_ready(), READINESS_TIMEOUT):
                return reply("ready", 200)
        return reply("not ready", 503)

    def reply(status: str, code: int) -> Response:
        active = alarms.active()
        return JSONResponse({"status": status} | ({"alarms": active} if active else {}), code)

    return readiness


async def _metrics(request: Request) -> Response:
    content = await asyncio.to_thread(generate_latest)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
