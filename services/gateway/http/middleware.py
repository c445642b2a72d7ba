"""Middleware of every route: API keys and security headers."""

from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import Failure
from services.gateway.auth import ApiKeys
from services.gateway.http.errors import STATUS, refusal
from services.gateway.openai.errors import error_body

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Authentication:
    """Lets callers in by their API keys, to what has ``/v1/`` in its path."""

    def __init__(self, inner: ASGIApp, keys: ApiKeys) -> None:
        self._inner, self._keys = inner, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply: Any = self._inner
        part = scope["path"].removeprefix("/v1/").partition("/")[0]
        if scope["path"].startswith("/v1/"):
            key = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            try:
                self._keys.authenticate(_RIGHTS.get(part, "chat"), key)
            except Failure as failure:
                status = STATUS[failure.code.name]
                reply = JSONResponse(error_body(failure, status), status)
                if part in _RIGHTS:
                    reply = refusal(failure)
        await reply(scope, receive, send)


_RIGHTS = {"twins": "twin", "ask": "rag", "documents": "rag", "cache": "cache"}


class SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (name.lower().encode(), value.encode()) for name, value in _SECURITY.items()
                ]
            await send(message)

        await self._inner(scope, receive, add)
