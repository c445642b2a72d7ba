"""Tells a question's story as server-sent events (WHATWG HTML, §9.2).

They are named after the events of StreamAskResponse, and carry the same as JSON.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from google.protobuf import json_format
from starlette.responses import StreamingResponse

from services import deadlines
from services.errors import Failure
from services.gateway.rag import messages
from services.gateway.rag.service import Answers, Event
from services.gateway.rag.types import Question

MEDIA_TYPE = "text/event-stream"


async def response(answers: Answers, question: Question) -> StreamingResponse:
    """Begin to answer; what fails before the first event is raised, later on it is an event."""
    with deadlines.within(deadlines.LONG_DEADLINE):
        events = answers.stream(question, streamed=True)
        async with asyncio.timeout(deadlines.LONG_DEADLINE):
            first = await anext(events)
    return StreamingResponse(
        _told(first, events), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"}
    )


async def _told(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[str]:
    for text in _written(first):
        yield text
    try:
        with deadlines.within(deadlines.LONG_DEADLINE):
            async with asyncio.timeout(deadlines.LONG_DEADLINE):
                async for event in events:
                    for text in _written(event):
                        yield text
    except Failure as failure:
        yield _event("error", {"reason": failure.reason, "message": failure.message})
    except TimeoutError:
        yield _event("error", {"reason": "DEADLINE_EXCEEDED", "message": "The time is up."})


def _written(event: Event) -> list[str]:
    texts = []
    for message in messages.events(event):
        kind = str(message.WhichOneof("event"))
        said = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        texts.append(_event(kind, said[kind]))
    return texts


def _event(kind: str, data: object) -> str:
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
