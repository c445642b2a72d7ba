"""Documents over HTTP: a form of files, or one as the body. Large ones are spooled to disk."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services import deadlines
from services.errors import InvalidArgument
from services.gateway.backends.types import Value
from services.gateway.http import bodies
from services.gateway.http.responses import message_to_dict
from services.gateway.rag import messages
from services.gateway.rag.ingest.parsers import files
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.types import DOCUMENT_BYTES, Source

REQUEST_BYTES = 256 * 2**20
# An upload takes as long as its documents do.
DEADLINE = 3600.0


class DocumentRoutes:
    """``POST /v1/documents``: takes files in, and returns a receipt of each."""

    def __init__(self, ingest: IngestService) -> None:
        self._ingest = ingest

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/documents", self.take, methods=["POST"])]

    async def take(self, request: Request) -> Response:
        """Take documents in: the ``file`` parts of a form, or the body as the ``id`` of the query.

        ``collection``, ``title`` and ``fields`` (as JSON) come in the form or the query, and hold
        for all of its files.
        """
        with deadlines.limit(DEADLINE):
            async with asyncio.timeout(DEADLINE):
                has_form = bodies.is_form(request)
                form = await bodies.form(request, REQUEST_BYTES) if has_form else None
                try:
                    sources = _source(request) if form is None else _sources(request, form)
                    receipts = [one async for one in self._ingest.take_all(sources)]
                finally:
                    if form is not None:
                        await form.close()
        return JSONResponse(
            {"receipts": [message_to_dict(messages.receipt(one)) for one in receipts]}
        )


async def _sources(request: Request, form: FormData) -> AsyncIterator[Source]:
    """Yield the files of a form, each read when its turn comes."""
    options = dict(request.query_params)
    options |= {name: value for name, value in form.multi_items() if isinstance(value, str)}
    uploads = [one for one in form.getlist("file") if isinstance(one, UploadFile)]
    if not uploads:
        raise InvalidArgument("NO_FILE", "The form has no part named file.", field="file")
    for upload in uploads:
        content = await upload.read(DOCUMENT_BYTES + 1)
        yield _read(options | {"id": upload.filename or ""}, upload.content_type, content)


async def _source(request: Request) -> AsyncIterator[Source]:
    content = await bodies.whole(request, DOCUMENT_BYTES)
    yield _read(dict(request.query_params), request.headers.get("content-type"), content)


def _read(options: dict[str, str], named: str | None, content: bytes) -> Source:
    """Return a document; a media type that is none of ours is only what a client guessed."""
    plainly = (named or "").partition(";")[0].strip().lower()
    return Source(
        collection=options.get("collection", ""),
        id=options.get("id", ""),
        title=options.get("title", ""),
        media_type=plainly if plainly in files.MEDIA_TYPES else "",
        fields=_fields(options.get("fields", "{}")),
        content=content,
    )


def _fields(text: str) -> dict[str, Value]:
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict) or not all(map(_is_value, given.values())):
        raise InvalidArgument(
            "BAD_FIELDS",
            "fields is JSON: names with numbers, strings, lists of strings or"
            ' {"lat": …, "lon": …}.',
            field="fields",
        )
    return given


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    if isinstance(value, dict):
        return value.keys() == {"lat", "lon"} and all(map(_is_number, value.values()))
    return isinstance(value, str) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
