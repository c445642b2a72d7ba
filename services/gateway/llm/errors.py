"""Converts failures of the language model server to our failures.

The failure keeps the server's HTTP status and error fields in its metadata. Callers of OpenAI's API
therefore see them even if another replica raises the failure.
"""

import email.utils
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.errors import FailedPrecondition, Failure, InvalidArgument, Overloaded, Unavailable
from services.gateway.json_reader import read_object

log = logging.getLogger(__name__)

REFUSED = "LANGUAGE_MODEL_REFUSED"
MISCONFIGURED = "LANGUAGE_MODEL_MISCONFIGURED"
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
# What these say is about the credentials of the gateway, not about those of its callers.
_CREDENTIALS = frozenset({401, 403, 407})
_LOGGED_BYTES = 1024
# Bytes of an error response that are read.
MAX_BODY_BYTES = 2**16
_MAX_RETRY_SECONDS = 86_400.0
_SERVER_ERROR = 500
# Headers of responses that callers get, too.
_PASSED = frozenset({"x-request-id", "openai-processing-ms"})
_PASSED_PREFIX = "x-ratelimit-"
_MAX_HEADER = 128


@dataclass(frozen=True)
class UpstreamError:
    """The language model server's error: its HTTP status and OpenAI's error fields."""

    status: int
    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | None = None


def refused(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Failure:
    """Return the failure for an error response of the language model server.

    Args:
        status: the HTTP status of the response.
        body: the response's body; only the fields of an OpenAI error are passed on.
        headers: the headers of the response, with names in lower case.
    """
    headers = headers or {}
    log.warning(
        "language model server refused a request",
        extra={"status": status, "body": body[:_LOGGED_BYTES].decode(errors="ignore")},
    )
    if status in _CREDENTIALS:
        return FailedPrecondition(
            MISCONFIGURED,
            "The language model server refused the credentials of the gateway. Its operator must"
            " check MEMETWIN_LLM_API_KEY. Your own credentials are valid.",
            status=status,
        )
    kind = _KINDS.get(status, Unavailable if status >= _SERVER_ERROR else FailedPrecondition)
    failure = kind(
        REFUSED,
        f"The language model server refused the request with HTTP status {status}.",
        retry_after=retry_after(headers),
        status=status,
    )
    if request_id := passed_headers(headers).get("x-request-id"):
        failure.metadata["upstream_request_id"] = request_id
    # The constructor would truncate these values to fewer characters than messages need.
    failure.metadata |= {f"upstream_{name}": value for name, value in _fields(body).items()}
    return failure


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a response that callers get, too."""
    return {
        name: value
        for name, value in headers.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIX)
        if len(name) <= _MAX_HEADER and len(value) <= _MAX_HEADER
        if value.isascii() and value.isprintable()
    }


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


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that headers name, or None.

    ``Retry-After`` has seconds or a date (RFC 9110, section 10.2.3). Some servers send fractions of
    seconds, and OpenAI's also sends ``retry-after-ms``.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, _MAX_RETRY_SECONDS)
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is None and value:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else min(max(seconds, 0.0), _MAX_RETRY_SECONDS)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text.strip()[:50]) else None


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
