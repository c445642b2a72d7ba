"""OpenAI's HTTP API over the chat, so that its client libraries work by their base URL alone."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from services.errors import Failure, InvalidArgument
from services.gateway.auth import max_error_rate, tenant
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.types import Bound, Scope
from services.gateway.chat.cache_key import Controls
from services.gateway.chat.service import ChatService
from services.gateway.http.caching import cache_control, cache_headers
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import Json
from services.gateway.openai.errors import error_body, told

JSON_BYTES = 32 * 2**20
TEXTS = 2048


class OpenAiApi:
    """The routes under ``/v1`` that OpenAI's API has."""

    def __init__(
        self, chat: ChatService, embedder: EmbedderClient, upstream: LanguageModelClient
    ) -> None:
        self._chat = chat
        self._embedder = embedder
        self._upstream = upstream

    def routes(self) -> list[Route]:
        """Return the routes; what they refuse is told in OpenAI's shape."""
        return [
            Route("/v1/chat/completions", told(self.complete), methods=["POST"]),
            Route("/v1/embeddings", told(self.embed), methods=["POST"]),
            Route("/v1/models", told(self.models)),
        ]

    async def complete(self, request: Request) -> Response:
        """Answer a chat completion, whole or as server-sent events."""
        body = await _body(request)
        answering = await self._chat.open(body, _controls(request))
        headers = cache_headers(answering.decision)
        if not answering.conversation.streams:
            return JSONResponse(await answering.whole(), headers=headers)
        chunks = answering.chunks()
        first = await anext(chunks, None)  # what is refused at once keeps its own status
        headers["Cache-Control"] = "no-store"
        return StreamingResponse(_events(first, chunks), 200, headers, "text/event-stream")

    async def embed(self, request: Request) -> Response:
        """Embed texts with one of the embedder's models."""
        body = await _body(request)
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if (
            not isinstance(texts, list)
            or not 0 < len(texts) <= TEXTS
            or not all(isinstance(text, str) and text for text in texts)
        ):
            raise InvalidArgument(
                "BAD_INPUT", f"input is a text, or 1 to {TEXTS} texts.", field="input"
            )
        size = body.get("dimensions") or 0
        if not isinstance(size, int) or size < 0:
            raise InvalidArgument("BAD_DIMENSIONS", "dimensions is a number.", field="dimensions")
        vectors, tokens = await self._embedder.embed_with_usage(
            texts, str(body.get("model") or ""), size
        )
        packs = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": place, "embedding": _numbers(row, packs=packs)}
            for place, row in enumerate(vectors.rows)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply = {"object": "list", "data": data, "model": vectors.model, "usage": usage}
        return JSONResponse(reply)

    async def models(self, request: Request) -> Response:
        """List the language model server's models and the embedder's."""
        listed = await self._upstream.models()
        for name in await self._embedder.text_models():
            listed.append({"id": name, "object": "model", "created": 0, "owned_by": "memetwin"})
        return JSONResponse({"object": "list", "data": listed})


def _controls(request: Request) -> Controls:
    no_cache, no_store, age = cache_control(request.headers.get("cache-control", ""))
    named = (request.headers.get(f"x-memetwin-{name}", "") for name in ("user", "namespace"))
    scope = Scope(tenant(request.headers.get("x-memetwin-tenant", "")), *named)
    return Controls(scope, Bound(None, max_error_rate(), age), no_cache, no_store)


async def _events(first: Json | None, chunks: AsyncIterator[Json]) -> AsyncIterator[str]:
    """Write chunks as server-sent events; a failure after the first is an event of its own."""
    try:
        if first is not None:
            yield f"data: {json.dumps(first, ensure_ascii=False)}\n\n"
        async for chunk in chunks:
            yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    except Failure as failure:
        yield f"data: {json.dumps(error_body(failure, 503))}\n\n"
        return
    yield "data: [DONE]\n\n"


async def _body(request: Request) -> Json:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > JSON_BYTES:
            raise InvalidArgument("BODY_TOO_LARGE", f"The body has over {JSON_BYTES} bytes.")
    try:
        body = json.loads(data)
    except ValueError as error:
        raise InvalidArgument("BAD_JSON", "The body is no JSON.") from error
    if not isinstance(body, dict):
        raise InvalidArgument("BAD_JSON", "The body is no JSON object.")
    return body


def _numbers(row: Any, *, packs: bool) -> str | list[float]:
    if packs:
        return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()
    numbers: list[float] = row.tolist()
    return numbers
