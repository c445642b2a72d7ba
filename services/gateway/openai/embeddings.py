"""``POST /v1/embeddings`` of OpenAI's API, over the embedder."""

import asyncio
import base64
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.errors import InvalidArgument
from services.gateway.auth.caller import charge
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Vectors
from services.gateway.http import bodies
from services.gateway.llm.types import Json
from services.gateway.openai.embedding_tokens import TokenDecoder
from services.gateway.openai.routing import openai_route

BODY_BYTES = 8 * 2**20
MAX_INPUTS = 2048
# OpenAI's limit of the tokens in a request, and of those in an input.
MAX_TOKENS, MAX_INPUT_TOKENS = 300_000, 8192
_MAX_DIMENSIONS = 2**31 - 1
TRUNCATE_HEADER, TRUNCATED_HEADER = "X-Memetwin-Truncate", "X-Memetwin-Truncated-Inputs"


class EmbeddingRoutes:
    """The route of embeddings."""

    def __init__(self, embedder: EmbedderClient, decoder: TokenDecoder) -> None:
        self._embedder, self._decoder = embedder, decoder

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [openai_route("/v1/embeddings", self.embed, "POST")]

    async def embed(self, request: Request) -> Response:
        """Embed texts with one of the embedder's models.

        The response header X-Memetwin-Truncated-Inputs counts the inputs that the model cuts. With
        the request header ``X-Memetwin-Truncate: false``, such an input is an error.
        """
        truncate = read_truncate(request.headers.get(TRUNCATE_HEADER, "true"))
        body = await bodies.json_object(request, BODY_BYTES, MAX_TOKENS + MAX_INPUTS)
        dimensions, as_base64 = read_dimensions(body), read_as_base64(body)
        texts, tokens_of_inputs = await asyncio.to_thread(read_inputs, body)
        with _openai_field():
            if tokens_of_inputs:
                texts = await self._decoder.decode(tokens_of_inputs, read_model(body))
            vectors, tokens = await self._embedder.embed_with_usage(
                texts, read_model(body), dimensions, truncate=truncate
            )
        charge({"embedded_tokens": tokens})
        content = await asyncio.to_thread(write_reply, vectors, tokens, as_base64=as_base64)
        truncated = sum(reading.truncated for reading in vectors.readings)
        headers = {TRUNCATED_HEADER: str(truncated)}
        return Response(content, media_type="application/json", headers=headers)


def read_inputs(body: Json) -> tuple[list[str], list[list[int]]]:
    """Return the texts to embed, or their token ids. One of the lists is empty.

    Raises InvalidArgument if there are none or too many, if one is empty, or if some are texts and
    others are tokens.
    """
    value = body.get("input")
    inputs = [value] if isinstance(value, str) or _is_tokens(value) else value
    if isinstance(inputs, list) and 0 < len(inputs) <= MAX_INPUTS:
        if all(isinstance(one, str) and one for one in inputs):
            return inputs, []
        if all(map(_is_tokens, inputs)):
            return [], inputs
    raise InvalidArgument(
        "BAD_INPUT",
        f"input must be a text that is not empty, or a list of 1 to {MAX_INPUTS} of them. Token ids"
        f" are lists of 1 to {MAX_INPUT_TOKENS} integers.",
        field="input",
    )


def _is_tokens(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MAX_INPUT_TOKENS
        and all(type(one) is int and one >= 0 for one in value)
    )


def read_truncate(header: str) -> bool:
    """Return whether inputs that are too long are truncated. Raises InvalidArgument."""
    value = header.strip().lower()
    if value not in ("true", "false"):
        raise InvalidArgument(
            "BAD_TRUNCATE", f"{TRUNCATE_HEADER} must be true or false.", field=TRUNCATE_HEADER
        )
    return value == "true"


def read_dimensions(body: Json) -> int:
    """Return the requested number of dimensions, or 0 for all. Raises InvalidArgument."""
    dimensions = body.get("dimensions")
    if dimensions is None:
        return 0
    if type(dimensions) is not int or not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise InvalidArgument(
            "BAD_DIMENSIONS", "dimensions must be a positive integer.", field="dimensions"
        )
    return dimensions


def read_model(body: Json) -> str:
    """Return the name of a model, or an empty text for the default. Raises InvalidArgument."""
    model = body.get("model") or ""
    if not isinstance(model, str):
        raise InvalidArgument("BAD_PARAMETER", "model must be a string.", field="model")
    return model


def read_as_base64(body: Json) -> bool:
    """Return whether the vectors are to be sent as base64. Raises InvalidArgument."""
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise InvalidArgument(
            "BAD_PARAMETER", "encoding_format must be float or base64.", field="encoding_format"
        )
    return bool(encoding == "base64")


@contextlib.contextmanager
def _openai_field() -> Iterator[None]:
    """Name OpenAI's parameter in the embedder's errors, instead of a field of its message."""
    try:
        yield
    except InvalidArgument as failure:
        place = re.match(r"(?:inputs|token_ids)\[(\d+)]", failure.field)
        if not place:
            raise
        message = f"{failure.message} This is input {place[1]}."
        if failure.reason == "TEXT_TOO_LONG":
            message = (
                f"Input {place[1]} has more than the {failure.metadata['max_tokens']} tokens that"
                f" the model reads. Shorten it, or omit the header {TRUNCATE_HEADER}."
            )
        raise InvalidArgument(failure.reason, message, field="input", input=place[1]) from failure


def write_reply(vectors: Vectors, tokens: int, *, as_base64: bool) -> bytes:
    """Return OpenAI's response with the rows of ``vectors``, as JSON."""
    data = [
        {"object": "embedding", "index": index, "embedding": encode(row, as_base64=as_base64)}
        for index, row in enumerate(vectors.rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    reply = {"object": "list", "data": data, "model": vectors.model, "usage": usage}
    # A batch may have millions of numbers, which orjson writes without creating objects for them.
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def encode(vector: Any, *, as_base64: bool) -> str | NDArray[np.float32]:
    """Return a float vector in OpenAI's format: numbers, or base64 of little-endian float32."""
    numbers = np.ascontiguousarray(vector, "<f4")
    return base64.b64encode(numbers.tobytes()).decode() if as_base64 else numbers
