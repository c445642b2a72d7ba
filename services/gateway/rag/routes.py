"""Answers questions over HTTP as JSON, or as server-sent events while the answer is written.

The events have the names and the fields of StreamAskResponse.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memetwin.gateway.v1 import rag_pb2
from services import deadlines
from services.errors import Failure
from services.gateway import large_requests
from services.gateway.cache.headers import decision_headers
from services.gateway.http import bodies
from services.gateway.http.caching import cache_control
from services.gateway.http.disconnects import cancel_on_disconnect
from services.gateway.http.event_streams import MEDIA_TYPE, event_stream
from services.gateway.http.responses import message_response, message_to_dict, server_sent_event
from services.gateway.rag import messages
from services.gateway.rag.service import RagService
from services.gateway.rag.types import Event, Question


class RagRoutes:
    """``POST /v1/ask`` and ``POST /v1/retrieve``."""

    def __init__(self, rag: RagService, keepalive_seconds: float) -> None:
        self._rag, self._keepalive_seconds = rag, keepalive_seconds

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/ask", self.ask, methods=["POST"]),
            Route("/v1/retrieve", self.retrieve, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """Answer the AskRequest in the body, as events if the client accepts them, or as JSON."""
        message = await bodies.json_message(request, rag_pb2.AskRequest())
        _apply_cache_control(request.headers.get("cache-control", ""), message)
        if MEDIA_TYPE in request.headers.get("accept", ""):
            question = await large_requests.read(messages.read_question, message)
            return await self._stream(question)
        return await cancel_on_disconnect(request, self._answer(message))

    async def retrieve(self, request: Request) -> Response:
        """Return the passages for the RetrieveRequest in the body."""
        message = await bodies.json_message(request, rag_pb2.RetrieveRequest())
        return await cancel_on_disconnect(request, self._retrieve(message))

    async def _retrieve(self, message: rag_pb2.RetrieveRequest) -> Response:
        with deadlines.limit(deadlines.DEFAULT_DEADLINE):
            async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
                question = await large_requests.read(messages.read_question, message)
                retrieval = await self._rag.retrieve(question)
        return await message_response(messages.write_retrieval(*retrieval))

    async def _answer(self, message: rag_pb2.AskRequest) -> Response:
        """Answer with JSON."""
        with deadlines.limit(deadlines.LONG_DEADLINE):
            async with asyncio.timeout(deadlines.LONG_DEADLINE):
                question = await large_requests.read(messages.read_question, message)
                answer = await self._rag.ask(question)
        headers = decision_headers(answer.decision)
        return await message_response(messages.write_answer(answer), headers)

    async def _stream(self, question: Question) -> Response:
        """Answer with events."""
        with deadlines.limit(deadlines.LONG_DEADLINE):
            events = _texts(self._rag.stream(question, streamed=True))
            return await event_stream(events, _error_event, self._keepalive_seconds)


async def _texts(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    async for event in events:
        for text in _server_sent_events(event):
            yield text


def _server_sent_events(event: Event) -> list[str]:
    texts = []
    for message in messages.write_events(event):
        kind = str(message.WhichOneof("event"))
        texts.append(server_sent_event(kind, message_to_dict(message)[kind]))
    return texts


def _error_event(failure: Failure) -> str:
    return server_sent_event("error", {"reason": failure.reason, "message": failure.message})


def _apply_cache_control(header: str, message: rag_pb2.AskRequest) -> None:
    """Apply the Cache-Control header of a request to its message."""
    no_cache, no_store, max_age = cache_control(header)
    message.cache.no_cache |= no_cache
    message.cache.no_store |= no_store
    if max_age is not None:
        message.cache.max_age = max_age
