"""``/v1/responses`` of OpenAI's API: through the cache as chat completions, or forwarded."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.errors import Failure, NotFound
from services.gateway.cache.headers import decision_headers, requested_scope
from services.gateway.cache.types import Decision, Scope
from services.gateway.cache.usage import UsageRecorder
from services.gateway.chat.service import MAX_SHORT, ChatService
from services.gateway.chat.types import CacheControls
from services.gateway.http import bodies
from services.gateway.http.disconnects import cancel_on_disconnect
from services.gateway.http.errors import openai_error
from services.gateway.http.event_streams import event_stream
from services.gateway.http.responses import server_sent_event
from services.gateway.llm.forwarding import ResponseForwarder
from services.gateway.llm.types import Json
from services.gateway.openai.chat import BODY_BYTES, cache_controls
from services.gateway.openai.response_events import error_event, response_events
from services.gateway.openai.response_ids import ResponseIds
from services.gateway.openai.response_items import ResponseItems
from services.gateway.openai.response_objects import is_our_id, response_object
from services.gateway.openai.response_requests import Untranslatable, to_chat
from services.gateway.openai.routing import openai_route

_LAST_EVENTS = ("response.completed", "response.incomplete")
_EVENT_NAME = re.compile(r"[\w.]+")
_ACTIONS = {
    "GET": re.compile(r"[\w-]+(/input_items)?"),
    "DELETE": re.compile(r"[\w-]+"),
    "POST": re.compile(r"[\w-]+/cancel"),
}


@dataclass(frozen=True)
class ResponseState:
    """What callers can refer to by its id: stored responses, and items of responses."""

    ids: ResponseIds
    items: ResponseItems


class ResponseRoutes:
    """The routes of responses.

    Args:
        chat: answers the requests that chat completions can express.
        forwarder: sends the others to the language model server.
        usage: counts those.
        state: what callers can refer to by its id.
        keepalive_seconds: seconds without an event after which a stream sends a comment.
    """

    def __init__(
        self,
        chat: ChatService,
        forwarder: ResponseForwarder,
        usage: UsageRecorder,
        state: ResponseState,
        keepalive_seconds: float,
    ) -> None:
        self._chat, self._forwarder, self._usage = chat, forwarder, usage
        self._ids, self._items = state.ids, state.items
        self._keepalive_seconds = keepalive_seconds

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            openai_route("/v1/responses", self.create, "POST"),
            openai_route("/v1/responses/{id:path}", self.call, "GET", "DELETE", "POST"),
        ]

    async def create(self, request: Request) -> Response:
        """Answer a request, whole or as server-sent events."""
        body = await bodies.json_object(request, BODY_BYTES)
        return await cancel_on_disconnect(request, self._create(request, body))

    async def call(self, request: Request) -> Response:
        """Forward a request about a response that the language model server has stored."""
        path = request.path_params["id"]
        name, slash, rest = path.partition("/")
        _check_is_stored(name)
        action = _ACTIONS.get(request.method)
        if not (action and action.fullmatch(path)):
            raise NotFound("UNKNOWN_ROUTE", "There is no such route for responses.")
        ids = await self._ids.of(requested_scope(request.headers))
        path = ids.read(name) + slash + rest
        reply = await self._forwarder.call(request.method, path, request.url.query)
        return JSONResponse(ids.write_reply(reply))

    async def _create(self, request: Request, body: Json) -> Response:
        _check_is_stored(body.get("previous_response_id"))
        controls = cache_controls(request)
        body = await self._items.resolve(controls.scope, body)
        try:
            chat = await _to_chat(body)
        except Untranslatable as error:
            return await self._forward(body, controls.scope, error.reason)
        answer = await self._chat.complete(chat, controls)
        # The language model server's headers arrive with the first part of its answer.
        answer.headers.update(decision_headers(answer.decision))
        body = {**body, "model": answer.request.body["model"]}
        if not answer.request.is_streamed:
            response = response_object(body, await answer.completion())
            await self._remember(body, controls, response)
            return JSONResponse(response, headers=answer.headers)
        events = self._remembered(body, controls, response_events(body, answer.chunks()))
        return await self._stream(events, answer.headers)

    async def _remembered(
        self, body: Json, controls: CacheControls, events: AsyncIterator[Json]
    ) -> AsyncIterator[Json]:
        """Yield the events of a response, and remember its items before its last event."""
        async for event in events:
            if event["type"] in _LAST_EVENTS:
                await self._remember(body, controls, event["response"])
            yield event

    async def _remember(self, body: Json, controls: CacheControls, response: Json) -> None:
        """Store the items of a response, unless its caller does not want it."""
        if body.get("store") is not False and not controls.no_store:
            await self._items.put(controls.scope, response["output"])

    async def _forward(self, body: Json, scope: Scope, reason: str) -> Response:
        """Forward a request unchanged, except for the ids of responses."""
        decision = Decision("bypass", bypass_reason=reason)
        self._usage.record(scope, decision, 0.0)
        headers, ids = decision_headers(decision), await self._ids.of(scope)
        body = ids.read_request(body)
        if not body.get("stream"):
            reply = await self._forwarder.create(body)
            return JSONResponse(ids.write_reply(reply), headers=headers)
        events = self._forwarder.stream(body)
        return await self._stream((ids.write_reply(event) async for event in events), headers)

    async def _stream(self, events: AsyncIterator[Json], headers: dict[str, str]) -> Response:
        number = -1  # of the last event

        async def texts() -> AsyncIterator[str]:
            nonlocal number
            async for event in events:
                number = event.get("sequence_number", number + 1)
                yield server_sent_event(_name(event), event)

        def failure_event(failure: Failure) -> str:
            # The stream has begun, so the request was valid. The error is the server's.
            error = openai_error(failure, 503)["error"]
            return server_sent_event("error", error_event(error, number + 1))

        return await event_stream(texts(), failure_event, self._keepalive_seconds, headers)


async def _to_chat(body: Json) -> Json:
    """Translate a request, in a thread if it is long, so that other calls can run."""
    items, tools = body.get("input"), body.get("tools")
    size = sum(len(one) for one in (items, tools) if isinstance(one, list))
    return to_chat(body) if size <= MAX_SHORT else await asyncio.to_thread(to_chat, body)


def _name(event: Json) -> str:
    name = event.get("type")
    return name if isinstance(name, str) and _EVENT_NAME.fullmatch(name) else "message"


def _check_is_stored(response_id: Any) -> None:
    """Raise NotFound for the id of a response that the language model server does not have."""
    if isinstance(response_id, str) and is_our_id(response_id):
        raise NotFound(
            "RESPONSE_NOT_STORED",
            "The response was answered as a chat completion, which no server stores. Send the"
            " whole conversation as input, or create the response with store=true.",
            field="previous_response_id",
        )
