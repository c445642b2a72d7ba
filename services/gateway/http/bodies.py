"""Reads the bodies of HTTP requests, each up to the limit of its route."""

import asyncio
import functools
import re
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from services.errors import InvalidArgument
from services.gateway.http.body_budget import hold_bytes
from services.gateway.http.content_encoding import decompressed, encoding
from services.gateway.json_reader import MAX_VALUES, JsonError, read_object

M = TypeVar("M", bound=Message)
T = TypeVar("T")

JSON_BYTES = 2**20
# Seconds without a byte after which a body counts as truncated, and bytes per second that must
# arrive on average after as many seconds.
PAUSE = 30.0
MIN_RATE = 1024
# A text above this size takes milliseconds to parse.
_THREAD_BYTES = 2**16
# Bytes of a form that are parsed at once: a hostile form takes a microsecond per byte.
_FORM_STEP = 2**13
_SPOOL_BYTES = 2**16
_DISCARDED_BYTES = 2**25
# How the errors of json_format name a field: once for each message that it is in.
_FIELD = re.compile(r'Failed to parse (\w{1,50}) field: |has no field named "(\w{1,50})"')


async def json_object(
    request: Request, max_bytes: int = JSON_BYTES, max_values: int = MAX_VALUES
) -> dict[str, Any]:
    """Return the JSON object in a body.

    Args:
        request: the request.
        max_bytes: the limit of the body.
        max_values: maximum number of values in the object, on all levels.

    Raises:
        InvalidArgument: the body is not a JSON object, is too large or truncated, or has too many
            or too deeply nested values.
    """
    parse = functools.partial(_read_object, max_values=max_values)
    return await _parse(await read(request, max_bytes), parse)


async def json_message(request: Request, message: M) -> M:
    """Merge the JSON object in a body into a message, and return the message.

    Raises:
        InvalidArgument: as ``json_object``, or the object does not fit the message.
    """
    return await _parse(await read(request, JSON_BYTES), functools.partial(_read_message, message))


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
    parts = _held(request, max_bytes) if in_memory else stream(request, max_bytes)
    parser = MultiPartParser(request.headers, _steps(parts))
    parser.spool_max_size = max_bytes + 1 if in_memory else _SPOOL_BYTES
    try:
        found = await parser.parse()
    except (MultiPartException, ValueError) as error:
        raise _bad_form() from error
    try:
        _check_texts(found)
    except UnicodeEncodeError as error:
        await found.close()
        raise _bad_form() from error
    return found


async def read(request: Request, max_bytes: int) -> bytes:
    """Return a whole body.

    Raises:
        InvalidArgument: it is too large or truncated.
        Overloaded: there is no room for it.
    """
    return b"".join([part async for part in _held(request, max_bytes)])


async def stream(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield a body as it arrives, decompressed.

    Raises:
        InvalidArgument: it is too large, truncated or not compressed as its header says.
    """
    name = encoding(request.headers.get("content-encoding", ""))
    arriving = request.stream()
    parts = _arriving(arriving)
    size = 0
    async for part in decompressed(parts, name) if name else parts:
        size += len(part)
        if size > max_bytes:
            await _discard(arriving)
            raise InvalidArgument(
                "BODY_TOO_LARGE",
                f"The body exceeds the limit of {max_bytes} bytes. Send a smaller one.",
                limit=max_bytes,
            )
        yield part


async def _arriving(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a body. Raises InvalidArgument if it is truncated or too slow."""
    size, began = 0, time.monotonic()
    while part := await _next_part(parts, began + size / MIN_RATE):
        size += len(part)
        yield part


async def _held(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield a body as ``stream`` does, and hold its bytes until the request ends."""
    async for part in stream(request, max_bytes):
        hold_bytes(request, len(part))
        yield part


def content_type(request: Request) -> str:
    """Return the media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _bad_form() -> InvalidArgument:
    return InvalidArgument("BAD_FORM", "The body is not a valid multipart form.")


def _check_texts(parts: FormData) -> None:
    """Raise UnicodeEncodeError for half of a surrogate pair, which odd charsets may contain."""
    for name, value in parts.multi_items():
        for text in (name, value if isinstance(value, str) else value.filename or ""):
            text.encode()


async def _parse(body: bytes, parse: Callable[[bytes], T]) -> T:
    """Parse a body, in a thread if it is large, so that other requests can run."""
    return await asyncio.to_thread(parse, body) if len(body) > _THREAD_BYTES else parse(body)


def _read_object(body: bytes, max_values: int = MAX_VALUES) -> dict[str, Any]:
    try:
        return read_object(body, max_values=max_values)
    except JsonError as error:
        raise InvalidArgument("BAD_JSON", str(error), field=error.field) from error


def _read_message(message: M, body: bytes) -> M:
    try:
        return json_format.ParseDict(_read_object(body), message)
    except json_format.ParseError as error:
        raise InvalidArgument(
            "BAD_JSON",
            f"The body is not a valid {message.DESCRIPTOR.name}. Check the names and types of its"
            " fields.",
            field=".".join(first or second for first, second in _FIELD.findall(str(error))),
        ) from error


async def _next_part(parts: AsyncGenerator[bytes, None], earliest: float | None = None) -> bytes:
    """Return the next bytes of a body, or none at its end.

    Args:
        parts: the body.
        earliest: when the bytes until now would have arrived at the minimum rate.
    """
    behind = time.monotonic() - earliest if earliest else 0.0
    try:
        async with asyncio.timeout(PAUSE - max(0.0, behind)):
            async for part in parts:
                if part:
                    return part
        return b""
    except ClientDisconnect as error:
        raise InvalidArgument(
            "BODY_CUT", "The client disconnected before the body ended."
        ) from error
    except TimeoutError as error:
        raise InvalidArgument(
            "BODY_CUT",
            f"The body arrived too slowly: no part of it for {PAUSE:.0f} s, or less than"
            f" {MIN_RATE} bytes per second. Send it again.",
        ) from error


async def _discard(parts: AsyncGenerator[bytes, None]) -> None:
    """Read and discard a part of the rest of a body.

    Most clients do not read the response before they have sent the whole body.
    """
    size = 0
    while size < _DISCARDED_BYTES and (part := await _next_part(parts)):
        size += len(part)


async def _steps(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield a body in small steps, and let other tasks run between them."""
    async for part in parts:
        for start in range(0, len(part), _FORM_STEP):
            yield part[start : start + _FORM_STEP]
            await asyncio.sleep(0)
