"""Failures of the language model server, as failures of ours.

A refusal keeps the server's own HTTP status and error fields in its metadata, so that a caller of
OpenAI's API sees them wherever the failure is raised: in this process or on another replica.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any

from services.errors import FailedPrecondition, Failure, InvalidArgument, Overloaded, Unavailable

log = logging.getLogger(__name__)

REFUSED = "LANGUAGE_MODEL_REFUSED"
UNAVAILABLE = "LANGUAGE_MODEL_UNAVAILABLE"

_KINDS: dict[int, type[Failure]] = {
    400: InvalidArgument,
    413: InvalidArgument,
    422: InvalidArgument,
    429: Overloaded,
}
_FIELDS = ("message", "type", "param", "code")
_FIELD_LIMIT = 1024
_SERVER_ERROR = 500


@dataclass(frozen=True)
class UpstreamError:
    """What the language model server answered: its HTTP status and OpenAI's error fields."""

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
        retry_after: the ``Retry-After`` header, in seconds; other forms are ignored.
    """
    log.warning(
        "language model server refused a request",
        extra={"status": status, "body": body[:_FIELD_LIMIT].decode(errors="replace")},
    )
    kind = _KINDS.get(status, Unavailable if status >= _SERVER_ERROR else FailedPrecondition)
    failure = kind(
        REFUSED,
        "The language model server refused the request; see upstream_message in the metadata.",
        retry_after=float(retry_after) if retry_after.isdigit() else None,
        status=status,
    )
    # The constructor would truncate these values to fewer characters than messages need.
    failure.metadata |= {f"upstream_{name}": value for name, value in _fields(body).items()}
    return failure


def upstream_error(failure: Failure) -> UpstreamError | None:
    """Return what the language model server answered, or None for any other failure."""
    if failure.reason != REFUSED or "status" not in failure.metadata:
        return None
    fields = {name: failure.metadata.get(f"upstream_{name}") for name in _FIELDS}
    message = fields.pop("message") or failure.message
    return UpstreamError(int(failure.metadata["status"]), message, **fields)


def unavailable() -> Unavailable:
    """Return the failure for a server that does not answer, or not to the end."""
    return Unavailable(
        UNAVAILABLE,
        "The language model server did not answer, or its answer broke off; try again.",
        retry_after=2.0,
    )


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of an OpenAI error; some servers send its message alone."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value)
    if isinstance(error, str):
        error = {"message": error}
    elif not isinstance(error, dict):
        return {}
    elif "message" not in error:
        error = {**error, "message": value.get("detail")}
    return {
        name: str(error[name])[:_FIELD_LIMIT] for name in _FIELDS if error.get(name) is not None
    }
