"""``POST /v1/embeddings`` of OpenAI's API, over the embedder."""

import asyncio
import base64
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.errors import InvalidArgument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.http import bodies
from services.gateway.llm.types import Json
from services.gateway.openai.routing import openai_route

BODY_BYTES = 8 * 2**20
MAX_INPUTS = 2048


class EmbeddingRoutes:
    """The route of embeddings."""

    def __init__(self, embedder: EmbedderClient) -> None:
        self._embedder = embedder

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [openai_route("/v1/embeddings", self.embed, "POST")]

    async def embed(self, request: Request) -> Response:
        """Embed texts with one of the embedder's models."""
        body = await bodies.json_object(request, BODY_BYTES)
        texts, dimensions = read_inputs(body), read_dimensions(body)
        vectors, tokens = await self._embedder.embed_with_usage(
            texts, str(body.get("model") or ""), dimensions
        )
        as_base64 = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": encode(row, as_base64=as_base64)}
            for index, row in enumerate(vectors.rows)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply = {"object": "list", "data": data, "model": vectors.model, "usage": usage}
        # A batch may have millions of numbers, which orjson writes without creating objects for
        # them.
        content = await asyncio.to_thread(orjson.dumps, reply, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, media_type="application/json")


def read_inputs(body: Json) -> list[str]:
    """Return the texts to embed.

    Raises InvalidArgument if there are none or too many, or if one is empty.
    """
    value = body.get("input")
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, list)
        or not 0 < len(texts) <= MAX_INPUTS
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise InvalidArgument(
            "BAD_INPUT",
            f"input must be a non-empty string, or a list of 1 to {MAX_INPUTS} of them.",
            field="input",
        )
    return texts


def read_dimensions(body: Json) -> int:
    """Return the requested number of dimensions, or 0 for all. Raises InvalidArgument."""
    dimensions = body.get("dimensions") or 0
    if not isinstance(dimensions, int) or dimensions < 0:
        raise InvalidArgument(
            "BAD_DIMENSIONS", "dimensions must be a positive integer.", field="dimensions"
        )
    return dimensions


def encode(vector: Any, *, as_base64: bool) -> str | NDArray[np.float32]:
    """Return a float vector in OpenAI's format: numbers, or base64 of little-endian float32."""
    numbers = np.ascontiguousarray(vector, "<f4")
    return base64.b64encode(numbers.tobytes()).decode() if as_base64 else numbers
