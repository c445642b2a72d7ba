"""Converts failures of the language model server to our failures.

The failure keeps the server's HTTP status and error fields in its metadata. Callers of OpenAI's API
therefore see them even if another replica raises the failure.
"""

import logging
from dataclasses import dataclass
from typing import Any

from services.errors import FailedPrecondition, Failure, InvalidArgument, Overloaded, Unavailable
from services.gateway.json_reader import read_object

log = logging.getLogger(__name__)

REFUSED = "LANGUAGE_MODEL_REFUSED"
UNAVAILABLE = "LANGUAGE_MODEL_UNAVAILABLE"

_KINDS: dict[int, type[Failure]] = {
    400: InvalidArgument,
    413: InvalidArgument,
    422: InvalidArgument,
    429: Overloaded,
}
# The error fields that callers get, and the maximum bytes of each. They are sent in gRPC trailers.
# By default, clients accept 8 KiB of trailers.
_FIELDS = {"message": 2048, "type": 128, "param": 128, "code": 128}
_LOGGED_BYTES = 1024
# Bytes of an error response that are read.
MAX_BODY_BYTES = 2**16
_MAX_RETRY_SECONDS = 86_400
_SERVER_ERROR = 500


@dataclass(frozen=True)
class UpstreamError:
    """The language model server's error: its HTTP status and OpenAI's error fields."""

    status: int
    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | None = None


def refused(status: int, body: bytes, retry_after: str = "") -> Failure:
    """Return the failure for an error response of the language model server.

    Args:
        status: the HTTP status of the response.
        body: the response's body; only the fields of an OpenAI error are passed on.
        retry_after: the ``Retry-After`` header. Only the form in seconds is supported.
    """
    log.warning(
        "language model server refused a request",
        extra={"status": status, "body": body[:_LOGGED_BYTES].decode(errors="ignore")},
    )
    kind = _KINDS.get(status, Unavailable if status >= _SERVER_ERROR else FailedPrecondition)
    failure = kind(
        REFUSED,
        "The language model server refused the request. upstream_message in the metadata says why.",
        retry_after=_seconds(retry_after),
        status=status,
    )
    # The constructor would truncate these values to fewer characters than messages need.
    failure.metadata |= {f"upstream_{name}": value for name, value in _fields(body).items()}
    return failure


def upstream_error(failure: Failure) -> UpstreamError | None:
    """Return the language model server's error, or None for any other failure."""
    if failure.reason != REFUSED or "status" not in failure.metadata:
        return None
    fields = {name: failure.metadata.get(f"upstream_{name}") for name in _FIELDS}
    message = fields.pop("message") or failure.message
    return UpstreamError(int(failure.metadata["status"]), message, **fields)


def unavailable() -> Unavailable:
    """Return the failure for a server that does not answer, or whose answer is cut off."""
    return Unavailable(
        UNAVAILABLE,
        "The language model server did not answer, or its answer was cut off. Try again.",
        retry_after=2.0,
    )


def _seconds(retry_after: str) -> float | None:
    if not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return float(min(int(retry_after[:9]), _MAX_RETRY_SECONDS))


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of an OpenAI error. Some servers send only its message."""
    try:
        value = read_object(body)
    except ValueError:
        return {}
    error: Any = value.get("error", value)
    if isinstance(error, str):
        error = {"message": error}
    elif not isinstance(error, dict):
        return {}
    elif "message" not in error:
        error = {**error, "message": value.get("detail")}
    return {
        name: _bounded(str(error[name]), limit)
        for name, limit in _FIELDS.items()
        if error.get(name) is not None
    }


def _bounded(text: str, limit: int) -> str:
    """Return a text, cut to ``limit`` bytes of UTF-8."""
    return text.encode()[:limit].decode(errors="ignore")
