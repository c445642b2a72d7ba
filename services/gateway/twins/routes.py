"""TwinService over HTTP: finds the twins of a photo or a text, and serves their pictures."""

import asyncio
import re
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services import deadlines
from services.errors import InvalidArgument
from services.gateway.backends.types import METRICS
from services.gateway.http import bodies
from services.gateway.http.responses import message_to_dict
from services.gateway.twins import messages
from services.gateway.twins.service import TwinService

MAX_PHOTO_BYTES = 20 * 2**20


class TwinRoutes:
    """The routes under ``/v1/twins``."""

    def __init__(self, twins: TwinService) -> None:
        self._twins = twins

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/twins", self.find, methods=["POST"]),
            Route("/v1/twins/{id:path}/picture", self.picture),
        ]

    async def find(self, request: Request) -> Response:
        """Find the twins of a photo (the body or a form's ``image``) or of a text (JSON)."""
        limit = deadlines.DEFAULT_DEADLINE
        with deadlines.limit(limit):
            async with asyncio.timeout(limit):
                photo, options = await _query(request)
                metric, count = _metric(options), _limit(options)
                if photo or "text" not in options:
                    results = await self._twins.find(photo, metric, count)
                else:
                    results = await self._twins.find_by_text(_text(options), metric, count)
        reply = messages.write_results(results, total=results.embed + results.search)
        return JSONResponse(message_to_dict(reply))

    async def picture(self, request: Request) -> Response:
        """Return the picture file of a twin."""
        image, media_type = await self._twins.picture(request.path_params["id"])
        headers = {"Cache-Control": "private, max-age=60", "Vary": "Authorization"}
        return Response(image, media_type=media_type, headers=headers)


async def _query(request: Request) -> tuple[bytes, dict[str, Any]]:
    """Return a request's photo, or empty bytes without one, and its options."""
    options: dict[str, Any] = dict(request.query_params)
    if bodies.content_type(request) == "application/json":
        return b"", options | await bodies.json_object(request)
    if not bodies.is_form(request):
        return await bodies.read(request, MAX_PHOTO_BYTES), options
    # Kept in memory, so that a visitor's photo never reaches a disk.
    form = await bodies.form(request, MAX_PHOTO_BYTES, in_memory=True)
    options |= {name: value for name, value in form.items() if isinstance(value, str)}
    upload = form.get("image")
    photo = await upload.read() if isinstance(upload, UploadFile) else b""
    await form.close()
    return photo, options


def _metric(options: dict[str, Any]) -> str:
    name = str(options.get("metric", "cosine")).lower().removeprefix("metric_")
    if name not in METRICS:
        raise InvalidArgument(
            "UNKNOWN_METRIC", "metric must be cosine, ip or l2.", field="metric", metric=name
        )
    return name


def _text(options: dict[str, Any]) -> str:
    text = options["text"]
    if not isinstance(text, str):
        raise InvalidArgument("BAD_PARAMETER", "text must be a string.", field="text")
    return text


def _limit(options: dict[str, Any]) -> int:
    text = str(options.get("limit", "0"))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidArgument("BAD_LIMIT", "limit must be a whole number.", field="limit")
    return int(text)
