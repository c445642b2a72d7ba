"""ASGI middleware for every route: authentication and security headers."""

import contextlib
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import Failure
from services.gateway.auth.keys import ApiKeys
from services.gateway.http.errors import failure_response

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
_NO_CALL: AbstractAsyncContextManager[None] = contextlib.nullcontext()


class Authentication:
    """Authenticates the callers of all routes under ``/v1/`` by their API keys."""

    def __init__(self, inner: ASGIApp, keys: ApiKeys) -> None:
        self._inner, self._keys = inner, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before its body is read."""
        if not scope["path"].startswith("/v1/"):
            await self._inner(scope, receive, send)
            return
        is_started, call = False, None

        async def watch(message: Any) -> None:
            nonlocal is_started
            is_started = True
            if call and message["type"] == "http.response.start":
                ours = dict(call.headers())  # replace those of the language model server
                theirs = [one for one in message["headers"] if one[0].lower() not in ours]
                message["headers"] = [*theirs, *ours.items()]
            await send(message)

        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        try:
            call = self._keys.authenticate_route(scope.get("method", "GET"), scope["path"], header)
            async with call or _NO_CALL:
                await self._inner(scope, receive, watch)
        except Failure as failure:
            if not is_started:  # otherwise the client sees that the response is cut off
                await failure_response(scope["path"], failure)(scope, receive, watch)


class SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self._headers = [
            (name.lower().encode(), value.encode()) for name, value in _SECURITY_HEADERS.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def add_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += self._headers
            await send(message)

        await self._inner(scope, receive, add_headers)
