"""Failures in the shape of OpenAI's API."""

import contextlib
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services import deadlines
from services.errors import Failure
from services.gateway.http.errors import STATUS
from services.gateway.llm.client import Refused
from services.gateway.llm.types import Json

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def told(handler: Any) -> Any:
    async def tell(request: Request) -> Response:
        try:
            with deadlines.within(deadlines.LONG_DEADLINE):
                reply: Response = await handler(request)
                return reply
        except Refused as refused:
            media = "application/json"
            headers = _retry(refused)
            return Response(refused.body, refused.status, headers, media)
        except Failure as failure:
            status = STATUS.get(failure.code.name, 500)
            return JSONResponse(error_body(failure, status), status, _retry(failure))

    return tell


def _retry(failure: Failure) -> dict[str, str]:
    if failure.retry_after is None:
        return {}
    return {"Retry-After": str(max(1, round(failure.retry_after)))}


def error_body(failure: Failure, status: int) -> Json:
    """Return a failure in OpenAI's shape, as the language model's server told it if it did."""
    if isinstance(failure, Refused):
        with contextlib.suppress(ValueError):
            told = json.loads(failure.body)
            if isinstance(told, dict) and "error" in told:
                return told
    usual = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004
    return {
        "error": {
            "message": failure.message,
            "type": _TYPES.get(status, usual),
            "param": failure.field or None,
            "code": failure.reason.lower(),
        }
    }
