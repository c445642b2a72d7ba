"""Reads the bodies of HTTP requests, each up to the limit of its route."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from services.errors import InvalidArgument

JSON_BYTES = 2**20


async def json_object(request: Request, max_bytes: int = JSON_BYTES) -> dict[str, Any]:
    """Return the JSON object in a body. Raises InvalidArgument if there is none."""
    try:
        value = json.loads(await read(request, max_bytes))
    except ValueError as error:
        raise InvalidArgument("BAD_JSON", "The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise InvalidArgument("BAD_JSON", "The body must be a JSON object.")
    return value


def is_form(request: Request) -> bool:
    """Return whether a body is a form that may have files."""
    return content_type(request) == "multipart/form-data"


async def form(request: Request, max_bytes: int, *, in_memory: bool = False) -> FormData:
    """Return the parts of a form; the caller closes it.

    Args:
        request: a request for which ``is_form`` holds.
        max_bytes: the limit of the whole body.
        in_memory: keep files in memory; otherwise larger ones are spooled to disk.

    Raises:
        InvalidArgument: the form is not valid, or the body is too large or truncated.
    """
    parser = MultiPartParser(request.headers, stream(request, max_bytes))
    if in_memory:
        parser.spool_max_size = max_bytes + 1
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise InvalidArgument("BAD_FORM", "The body is not a valid multipart form.") from error


async def read(request: Request, max_bytes: int) -> bytes:
    """Return a whole body. Raises InvalidArgument if it is too large or truncated."""
    return b"".join([part async for part in stream(request, max_bytes)])


async def stream(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield a body as it arrives. Raises InvalidArgument if it is too large or truncated."""
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise InvalidArgument(
                    "BODY_TOO_LARGE",
                    f"The body exceeds the limit of {max_bytes} bytes; send a smaller one.",
                    limit=max_bytes,
                )
            yield part
    except ClientDisconnect as error:
        raise InvalidArgument(
            "BODY_CUT", "The client disconnected before the body ended."
        ) from error


def content_type(request: Request) -> str:
    """Return the media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
