"""Ingests documents over HTTP: the files of a form, or the body as one document."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services import deadlines
from services.errors import InvalidArgument
from services.gateway.backends.types import Value
from services.gateway.http import bodies
from services.gateway.http.disconnects import cancel_on_disconnect
from services.gateway.http.errors import receipts_response
from services.gateway.http.responses import message_to_dict
from services.gateway.json_reader import read_object
from services.gateway.rag.ingest import media_types, messages
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.types import MAX_DOCUMENT_BYTES, Receipt, Source

MAX_FORM_BYTES = 256 * 2**20
# Seconds. Uploads get more time than other requests because one can contain a whole corpus.
DEADLINE = 3600.0


class DocumentRoutes:
    """``POST /v1/documents``."""

    def __init__(self, ingest: IngestService) -> None:
        self._ingest = ingest

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/documents", self.ingest, methods=["POST"])]

    async def ingest(self, request: Request) -> Response:
        """Ingest the ``file`` parts of a form, or the body. Return a receipt for each document.

        The ingest stops when the client disconnects.

        The form or the query has ``collection``, ``title`` and ``fields`` (JSON), which apply to
        all files. The query has the ``id`` of a body. The id of a form's file is its name.
        """
        with deadlines.limit(DEADLINE):
            async with asyncio.timeout(DEADLINE):
                has_form = bodies.is_form(request)
                form = await bodies.form(request, MAX_FORM_BYTES) if has_form else None
                content = b"" if has_form else await bodies.read(request, MAX_DOCUMENT_BYTES)
                try:
                    sources = (
                        _body(request, content) if form is None else _form_files(request, form)
                    )
                    return await cancel_on_disconnect(request, self._receipts(sources))
                finally:
                    if form is not None:
                        await form.close()

    async def _receipts(self, sources: AsyncIterator[Source]) -> Response:
        receipts = [receipt async for receipt in self._ingest.ingest(sources)]
        return await asyncio.to_thread(_response, receipts)


def _response(receipts: Sequence[Receipt]) -> Response:
    shown = [message_to_dict(messages.write_receipt(one)) for one in receipts]
    return receipts_response(shown, [one.failure for one in receipts if one.failure])


async def _form_files(request: Request, form: FormData) -> AsyncIterator[Source]:
    """Yield the files of a form. Each is read only when the ingest reaches it."""
    options = dict(request.query_params)
    options |= {name: value for name, value in form.multi_items() if isinstance(value, str)}
    uploads = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
    if not uploads:
        raise InvalidArgument(
            "NO_FILE", "The form has no file. Send each file in a part named `file`.", field="file"
        )
    for upload in uploads:
        content = await upload.read(MAX_DOCUMENT_BYTES + 1)
        yield _source(options | {"id": upload.filename or ""}, upload.content_type, content)


async def _body(request: Request, content: bytes) -> AsyncIterator[Source]:
    yield _source(dict(request.query_params), request.headers.get("content-type"), content)


def _source(options: dict[str, str], content_type: str | None, content: bytes) -> Source:
    """Return a document. Ignore a media type that no parser supports; clients often guess it."""
    declared = content_type or ""
    return Source(
        collection=options.get("collection", ""),
        id=options.get("id", ""),
        title=options.get("title", ""),
        media_type=declared if media_types.is_supported(declared) else "",
        fields=_fields(options.get("fields", "{}")),
        content=content,
    )


def _fields(text: str) -> dict[str, Value]:
    try:
        fields = read_object(text.encode(), name="fields")
    except ValueError:
        fields = None
    if fields is None or not all(map(_is_value, fields.values())):
        raise InvalidArgument(
            "BAD_FIELDS",
            "fields must be a JSON object whose values are numbers, strings, lists of strings or"
            ' points {"lat": …, "lon": …}.',
            field="fields",
        )
    return fields


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    if isinstance(value, dict):
        return value.keys() == {"lat", "lon"} and all(map(_is_number, value.values()))
    return isinstance(value, str) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
