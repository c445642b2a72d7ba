"""TwinService over HTTP: finds the twins of a photo or a text, and serves their pictures."""

import asyncio
from dataclasses import asdict
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memetwin.gateway.v1 import twin_pb2
from services import deadlines
from services.errors import InvalidArgument
from services.gateway.backends.types import METRICS
from services.gateway.http import bodies
from services.gateway.http.numbers import whole_number
from services.gateway.http.responses import message_to_dict
from services.gateway.twins import messages
from services.gateway.twins.likeness import Likeness
from services.gateway.twins.map import TwinMap
from services.gateway.twins.service import TwinService
from services.gateway.twins.types import Picture

MAX_PHOTO_BYTES = 20 * 2**20


class TwinRoutes:
    """The routes under ``/v1/twins``."""

    def __init__(self, twins: TwinService, twin_map: TwinMap, likeness: Likeness) -> None:
        self._twins = twins
        self._map = twin_map
        self._likeness = likeness

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/twins", self.list, methods=["GET"]),
            Route("/v1/twins", self.find, methods=["POST"]),
            Route("/v1/twins/map", self.map, methods=["GET"]),
            Route("/v1/twins/map", self.place, methods=["POST"]),
            Route("/v1/twins/{id:path}/picture", self.picture),
            Route("/v1/twins/{id:path}/similarities", self.similarities, methods=["POST"]),
            Route("/v1/twins/{id:path}", self.add, methods=["PUT"]),
            Route("/v1/twins/{id:path}", self.delete, methods=["DELETE"]),
        ]

    async def find(self, request: Request) -> Response:
        """Find the twins of a photo (the body or a form's ``image``) or of a text (JSON)."""
        limit = deadlines.DEFAULT_DEADLINE
        with deadlines.limit(limit):
            async with asyncio.timeout(limit):
                photo, options = await _query(request)
                metric, count = _metric(options), whole_number(options, "limit")
                if photo or "text" not in options:
                    results = await self._twins.find(photo, metric, count)
                else:
                    results = await self._twins.find_by_text(_text(options), metric, count)
        reply = messages.write_results(results, total=results.embed + results.search)
        return JSONResponse(message_to_dict(reply))

    async def list(self, request: Request) -> Response:
        """Return a page of the caller's twins, in the order of their ids."""
        options = dict(request.query_params)
        twins, token = await self._twins.page(
            whole_number(options, "page_size"), options.get("page_token", "")
        )
        reply = twin_pb2.ListTwinsResponse(
            twins=map(messages.write_twin, twins), next_page_token=token
        )
        return JSONResponse(message_to_dict(reply))

    async def map(self, request: Request) -> Response:
        """Return the points of all twins on the map."""
        points, typical = await self._map.points()
        twins = [asdict(place) for place in points]
        return JSONResponse({"twins": twins, "typical_similarity": typical})

    async def place(self, request: Request) -> Response:
        """Return the place of a photo (the body) on the map."""
        found = await self._map.place(await bodies.read(request, MAX_PHOTO_BYTES))
        return JSONResponse({"place": {"x": found[0], "y": found[1]} if found else None})

    async def similarities(self, request: Request) -> Response:
        """Return how similar each picture of a form is to a twin."""
        form = await bodies.form(request, MAX_PHOTO_BYTES, in_memory=True)
        uploads = form.getlist("image")
        images = [await one.read() for one in uploads if isinstance(one, UploadFile)]
        await form.close()
        found = await self._likeness.similarities(request.path_params["id"], images)
        return JSONResponse({"similarities": found.tolist()})

    async def add(self, request: Request) -> Response:
        """Store a picture (the body) as a twin; ``title`` and ``tag`` are in the query."""
        query = request.query_params
        key = request.path_params["id"]
        image = await bodies.read(request, MAX_PHOTO_BYTES)
        picture = Picture(query.get("title", key), image, key, query.getlist("tag"))
        twin, created = await self._twins.add(picture)
        reply = twin_pb2.AddTwinResponse(twin=messages.write_twin(twin), created=created)
        return JSONResponse(message_to_dict(reply))

    async def delete(self, request: Request) -> Response:
        """Delete a twin."""
        await self._twins.delete(request.path_params["id"])
        return JSONResponse({})

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
