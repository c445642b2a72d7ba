"""ASGI middleware for every route: authentication and security headers."""

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import Failure
from services.gateway.auth.keys import ApiKeys
from services.gateway.http.errors import error_response, openai_error_response

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# The right that a route requires, by the first segment after /v1/. All others are OpenAI's, which
# require "chat" and answer in OpenAI's shape.
_RIGHTS = {"twins": "twin", "ask": "rag", "documents": "rag", "cache": "cache"}


class Authentication:
    """Authenticates the callers of all routes under ``/v1/`` by their API keys."""

    def __init__(self, inner: ASGIApp, keys: ApiKeys) -> None:
        self._inner, self._keys = inner, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        reply: Any = self._inner
        if scope["path"].startswith("/v1/"):
            segment = scope["path"].removeprefix("/v1/").partition("/")[0]
            key = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            try:
                self._keys.authenticate(_RIGHTS.get(segment, "chat"), key)
            except Failure as failure:
                respond = error_response if segment in _RIGHTS else openai_error_response
                reply = respond(failure)
        await reply(scope, receive, send)


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
