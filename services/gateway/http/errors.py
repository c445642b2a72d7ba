"""Failures as HTTP responses."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.errors import Failure

STATUS = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip


async def failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, Failure)  # noqa: S101 - registered for nothing else
    return refusal(error)


def refusal(error: Failure) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    body = {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "field": error.field,
        "metadata": error.metadata,
    }
    return JSONResponse(
        {"error": body}, status_code=STATUS.get(error.code.name, 500), headers=headers
    )


async def late(request: Request, error: Exception) -> Response:
    return JSONResponse(
        {"error": {"code": "DEADLINE_EXCEEDED", "reason": "DEADLINE_EXCEEDED"}}, status_code=504
    )
