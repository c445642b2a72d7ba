"""Gives each request an id, and reports an error that no other code has caught, in the right shape.

The response has the id in ``X-Request-Id``, as OpenAI's API does. The log names it beside the
error.
"""

import logging
import uuid
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import Failure
from services.gateway.http.errors import failure_response

log = logging.getLogger(__name__)

_HEADER = b"x-request-id"


class RequestIds:
    """Adds the header, unless the response has it from the language model server."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request_id, is_started = f"req_{uuid.uuid4().hex}", False

        async def send_with_id(message: Any) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                if all(name.lower() != _HEADER for name, _ in message["headers"]):
                    message["headers"] = [*message["headers"], (_HEADER, request_id.encode())]
            await send(message)

        try:
            await self._inner(scope, receive, send_with_id)
        except Exception:
            method, path = scope.get("method", ""), scope["path"]
            details = {"request_id": request_id, "method": method, "path": path[:200]}
            log.exception("an HTTP request failed", extra=details)
            if not is_started:  # otherwise the client sees that the response is cut off
                failure = Failure(
                    "INTERNAL",
                    f"The service has an internal error. Its log shows why, for {request_id}.",
                )
                await failure_response(path, failure)(scope, receive, send_with_id)
