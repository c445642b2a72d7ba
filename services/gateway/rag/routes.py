"""Questions over HTTP: one JSON answer, or server-sent events as the answer is written.

The events are named after those of StreamAskResponse, and carry the same as JSON.
"""

import asyncio
from collections.abc import AsyncIterator

from google.protobuf import json_format
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from memetwin.gateway.v1 import rag_pb2
from services import deadlines
from services.errors import Failure, InvalidArgument
from services.gateway.http import bodies
from services.gateway.http.caching import cache_control, cache_headers
from services.gateway.http.responses import message_to_dict, server_sent_event
from services.gateway.rag import messages
from services.gateway.rag.service import Answer, Event, RagService
from services.gateway.rag.types import Question

EVENT_STREAM = "text/event-stream"


class RagRoutes:
    """``POST /v1/ask``."""

    def __init__(self, answers: RagService) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/ask", self.ask, methods=["POST"])]

    async def ask(self, request: Request) -> Response:
        """Answer the AskRequest that the body is: as JSON, or as events if those are accepted."""
        message = rag_pb2.AskRequest()
        try:
            json_format.ParseDict(await bodies.json_object(request), message)
        except json_format.ParseError as error:
            raise InvalidArgument(
                "BAD_JSON", "The body is not a valid AskRequest: a field is wrong."
            ) from error
        _read_cache_control(request.headers.get("cache-control", ""), message)
        if EVENT_STREAM in request.headers.get("accept", ""):
            return await self._stream(messages.question(message))
        limit = deadlines.LONG_DEADLINE
        with deadlines.limit(limit):
            async with asyncio.timeout(limit):
                answer = await self._answers.ask(messages.question(message))
        body = message_to_dict(messages.answer(answer))
        return JSONResponse(body, headers=_headers(answer, message))

    async def _stream(self, question: Question) -> StreamingResponse:
        """Begin to answer; what fails before the first event is raised, later on it is an event."""
        with deadlines.limit(deadlines.LONG_DEADLINE):
            events = self._answers.stream(question, streamed=True)
            async with asyncio.timeout(deadlines.LONG_DEADLINE):
                first = await anext(events)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(_lines(first, events), media_type=EVENT_STREAM, headers=headers)


async def _lines(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[str]:
    for text in _written(first):
        yield text
    try:
        with deadlines.limit(deadlines.LONG_DEADLINE):
            async with asyncio.timeout(deadlines.LONG_DEADLINE):
                async for event in events:
                    for text in _written(event):
                        yield text
    except Failure as failure:
        yield server_sent_event("error", {"reason": failure.reason, "message": failure.message})
    except TimeoutError:
        late = deadlines.exceeded()
        yield server_sent_event("error", {"reason": late.reason, "message": late.message})


def _written(event: Event) -> list[str]:
    texts = []
    for message in messages.events(event):
        kind = str(message.WhichOneof("event"))
        texts.append(server_sent_event(kind, message_to_dict(message)[kind]))
    return texts


def _read_cache_control(header: str, message: rag_pb2.AskRequest) -> None:
    """Apply the request's Cache-Control header."""
    no_cache, no_store, age = cache_control(header)
    message.cache.no_cache |= no_cache
    message.cache.no_store |= no_store
    if age is not None:
        message.cache.max_age = age


def _headers(answer: Answer, message: rag_pb2.AskRequest) -> dict[str, str]:
    if message.cache.no_cache and message.cache.no_store:
        return {"X-Memetwin-Cache": "bypass"}
    entry = answer.decision.entry
    return cache_headers(answer.decision.kind, entry.age if entry else None)
