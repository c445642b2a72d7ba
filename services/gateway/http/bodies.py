"""Reads the bodies of HTTP requests, so many bytes and no more; photos stay in memory."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from services.errors import InvalidArgument

PHOTO_BYTES = 20 * 2**20
JSON_BYTES = 2**20


async def json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that a body is. Raises InvalidArgument."""
    body = await _body(request, JSON_BYTES)
    try:
        value = json.loads(body)
    except ValueError as error:
        raise InvalidArgument("BAD_JSON", "The body is no JSON.") from error
    if not isinstance(value, dict):
        raise InvalidArgument("BAD_JSON", "The body is no JSON object.")
    return value


async def photo(request: Request) -> tuple[bytes, dict[str, Any]]:
    """Return the photo of a request, and the other fields of its form if it has one."""
    if content_type(request) != "multipart/form-data":
        return await _body(request, PHOTO_BYTES), {}
    try:
        form = await _InMemory(request.headers, _counted(request, PHOTO_BYTES)).parse()
    except MultiPartException as error:
        raise InvalidArgument("BAD_FORM", "The form cannot be read.") from error
    fields: dict[str, Any] = {name: value for name, value in form.items() if isinstance(value, str)}
    upload = form.get("image")
    image = b"" if upload is None or isinstance(upload, str) else await upload.read()
    await form.close()
    return image, fields


class _InMemory(MultiPartParser):
    """Keeps uploads in memory: a visitor's photo never reaches a disk."""

    spool_max_size = PHOTO_BYTES + 1


async def _body(request: Request, limit: int) -> bytes:
    return b"".join([chunk async for chunk in _counted(request, limit)])


async def _counted(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise InvalidArgument(
                    "BODY_TOO_LARGE", f"The body has more than {limit} bytes.", limit=limit
                )
            yield chunk
    except ClientDisconnect as error:
        raise InvalidArgument("BODY_CUT", "The body ended early.") from error


def content_type(request: Request) -> str:
    """Return the media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
