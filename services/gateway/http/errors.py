"""Turns failures into HTTP responses, in our shape or in that of OpenAI's API.

Ours is ``{"error": {code, reason, message, field, metadata}}``. OpenAI's is
``{"error": {message, type, param, code}}``
(https://platform.openai.com/docs/guides/error-codes).
"""

import math
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services import deadlines
from services.errors import Failure, Unauthenticated
from services.gateway.llm.errors import upstream_error

_STATUS = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
# Reasons with a more specific HTTP status than that of their code.
_STATUS_OF_REASON = {
    "BODY_TOO_LARGE": 413,
    "TOO_LARGE": 413,
    "UNSUPPORTED_CONTENT_ENCODING": 415,
    "METHOD_NOT_ALLOWED": 405,
    # The gateway cannot do its work because of a server behind it.
    "LANGUAGE_MODEL_MISCONFIGURED": 502,
}
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_SERVER_ERROR = 500
# Routes that report failures in our shape, by the first segment after /v1/; all others below /v1/
# report them in OpenAI's.
_OURS = frozenset({"twins", "ask", "documents", "cache", "feedback", "admin"})


def failure_response(path: str, failure: Failure) -> Response:
    """Return the response for a failure before the route of a path has answered."""
    _, root, segment, *_ = f"{path}///".split("/", 3)
    if root != "v1" or segment in _OURS:
        return error_response(failure)
    return openai_error_response(failure)


def error_response(failure: Failure) -> Response:
    """Return the response for a failure, in our shape."""
    return JSONResponse({"error": _error(failure)}, _status(failure), _headers(failure))


def receipts_response(receipts: Sequence[dict[str, Any]], failures: Sequence[Failure]) -> Response:
    """Return the receipts of a batch. If all of it has failed, the response is an error, too.

    Args:
        receipts: what the response shows of each item.
        failures: why items have failed.
    """
    content: dict[str, Any] = {"receipts": receipts}
    if not receipts or len(failures) < len(receipts):
        return JSONResponse(content)
    worst = max(failures, key=_status)
    return JSONResponse({"error": _error(worst)} | content, _status(worst), _headers(worst))


def openai_error_response(failure: Failure) -> Response:
    """Return the response for a failure, in the shape of OpenAI's API.

    An error of the language model server keeps its own status.
    """
    upstream = upstream_error(failure)
    status = upstream.status if upstream else _status(failure)
    return JSONResponse(openai_error(failure), status, _headers(failure))


def openai_error(failure: Failure, status: int | None = None) -> dict[str, Any]:
    """Return a failure in the shape of OpenAI's API.

    An error of the language model server keeps its own message, type, parameter and code.

    Args:
        failure: the failure.
        status: the HTTP status that determines the type; None for the failure's own.
    """
    upstream = upstream_error(failure)
    if upstream:
        error: dict[str, Any] = {
            "message": upstream.message,
            "type": upstream.type or _openai_type(upstream.status),
            "param": upstream.param,
            "code": upstream.code,
        }
    else:
        error = {
            "message": failure.message,
            "type": _openai_type(status or _status(failure)),
            "param": failure.field or None,
            "code": failure.reason.lower(),
        }
    return {"error": error}


async def handle_failure(request: Request, error: Exception) -> Response:
    """Answer a request whose handler has raised a Failure."""
    assert isinstance(error, Failure)  # noqa: S101 - registered for nothing else
    return error_response(error)


async def handle_timeout(request: Request, error: Exception) -> Response:
    """Answer a request whose handler has exceeded its deadline."""
    return error_response(deadlines.exceeded())


def _error(failure: Failure) -> dict[str, Any]:
    return {
        "code": failure.code.name,
        "reason": failure.reason,
        "message": failure.message,
        "field": failure.field,
        "metadata": failure.metadata,
    }


def _status(failure: Failure) -> int:
    status = _STATUS_OF_REASON.get(failure.reason)
    return status or _STATUS.get(failure.code.name, _SERVER_ERROR)


def _openai_type(status: int) -> str:
    usual = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
    return _OPENAI_TYPES.get(status, usual)


def _headers(failure: Failure) -> dict[str, str]:
    headers = {}
    if isinstance(failure, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, section 15.5.2
    if failure.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(failure.retry_after)))
        if failure.retry_after % 1:  # OpenAI's clients read this header first
            headers["Retry-After-Ms"] = str(math.ceil(failure.retry_after * 1000))
    if request_id := failure.metadata.get("upstream_request_id"):
        headers["X-Request-Id"] = request_id
    if failure.reason == "BODY_TOO_LARGE":
        headers["Connection"] = "close"  # otherwise the server reads the rest of the body
    if failure.reason == "UNSUPPORTED_CONTENT_ENCODING":
        headers["Accept-Encoding"] = "gzip, deflate"
    if failure.reason == "METHOD_NOT_ALLOWED":
        headers["Allow"] = failure.metadata["allowed"]
    return headers
