"""What the image network makes of a photo, over HTTP: its vector, and the output of each layer."""

import base64
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import NetworkView
from services.gateway.http import bodies
from services.gateway.http.numbers import whole_number
from services.gateway.twins.service import TwinService

MAX_PHOTO_BYTES = 20 * 2**20


class NetworkRoutes:
    """``POST /v1/twins/vector`` and ``POST /v1/twins/layers``. Neither stores the photo."""

    def __init__(self, twins: TwinService, embedder: EmbedderClient) -> None:
        self._twins = twins
        self._embedder = embedder

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/twins/vector", self.vector, methods=["POST"]),
            Route("/v1/twins/layers", self.layers, methods=["POST"]),
        ]

    async def vector(self, request: Request) -> Response:
        """Return the vector of a photo (the body), not normalised."""
        vectors = await self._twins.embed_photo(await bodies.read(request, MAX_PHOTO_BYTES))
        return JSONResponse({"model": vectors.model, "vector": vectors.rows[0].tolist()})

    async def layers(self, request: Request) -> Response:
        """Return what each layer of the image network computes from a photo (the body)."""
        channels = whole_number(request.query_params, "channels")
        image = await bodies.read(request, MAX_PHOTO_BYTES)
        return JSONResponse(_data(await self._embedder.feature_maps(image, channels)))


def _data(view: NetworkView) -> dict[str, Any]:
    """Return a view of the network as JSON data. Bytes are in base64."""
    layers = [
        asdict(layer) | {"values": _base64(layer.values), "weights": _base64(layer.weights)}
        for layer in view.layers
    ]
    return {"side": view.side, "pixels": _base64(view.pixels), "layers": layers}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
