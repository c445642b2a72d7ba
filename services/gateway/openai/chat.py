"""``POST /v1/chat/completions`` of OpenAI's API, through the cache."""

import json
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.errors import Failure
from services.gateway.auth.caller import current_max_error_rate
from services.gateway.cache.headers import decision_headers, requested_scope
from services.gateway.cache.types import Bound
from services.gateway.chat.service import ChatService
from services.gateway.chat.types import CacheControls
from services.gateway.http import bodies
from services.gateway.http.caching import cache_control
from services.gateway.http.disconnects import cancel_on_disconnect
from services.gateway.http.errors import openai_error
from services.gateway.http.event_streams import event_stream
from services.gateway.llm.types import Json
from services.gateway.openai.routing import openai_route

BODY_BYTES = 4 * 2**20


class ChatRoutes:
    """The route of chat completions."""

    def __init__(self, chat: ChatService, keepalive_seconds: float) -> None:
        self._chat, self._keepalive_seconds = chat, keepalive_seconds

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [openai_route("/v1/chat/completions", self.complete, "POST")]

    async def complete(self, request: Request) -> Response:
        """Answer a chat completion, whole or as server-sent events."""
        body = await bodies.json_object(request, BODY_BYTES)
        return await cancel_on_disconnect(request, self._complete(request, body))

    async def _complete(self, request: Request, body: Json) -> Response:
        answer = await self._chat.complete(body, cache_controls(request))
        # The language model server's headers arrive with the first part of its answer.
        answer.headers.update(decision_headers(answer.decision))
        if not answer.request.is_streamed:
            return JSONResponse(await answer.completion(), headers=answer.headers)
        return await event_stream(
            _events(answer.chunks()), _failure_event, self._keepalive_seconds, answer.headers
        )


def cache_controls(request: Request) -> CacheControls:
    """Return how the headers of a request want the cache to be used."""
    no_cache, no_store, max_age = cache_control(request.headers.get("cache-control", ""))
    scope = requested_scope(request.headers)
    return CacheControls(scope, Bound(None, current_max_error_rate(), max_age), no_cache, no_store)


async def _events(chunks: AsyncIterator[Json]) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield _event(chunk)
    yield "data: [DONE]\n\n"


def _failure_event(failure: Failure) -> str:
    # The stream has begun, so the request was valid. Whatever ends the stream is the server's
    # error.
    return _event(openai_error(failure, 503))


def _event(data: Json) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
