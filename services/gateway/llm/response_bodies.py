"""Reads what a language model server answers: whole completions, and the chunks of streams."""

import asyncio
from collections.abc import AsyncIterator

import httpx

from services.errors import Unavailable
from services.gateway.json_reader import JsonError, read_lenient_object
from services.gateway.llm.errors import unavailable
from services.gateway.llm.server_sent_events import ServerSentEvent, TooLongError, read_events
from services.gateway.llm.surrogates import may_have_halves, without_halves
from services.gateway.llm.types import Json

# Limits of what a server sends: the bytes of a whole answer or of one event, and its JSON values.
# An answer of 8,192 tokens with 20 alternatives of each has about 700,000 values.
MAX_ANSWER_BYTES = 32 * 2**20
MAX_ANSWER_VALUES = 2_000_000
_THREAD_BYTES = 2**18
_DONE = b"[DONE]"


async def read_answer(response: httpx.Response) -> tuple[bytes, Json]:
    """Return a whole answer, as text and as an object. Raises Unavailable for anything else."""
    data, is_whole = await read_body(response, MAX_ANSWER_BYTES)
    if not is_whole:
        raise unavailable()
    if len(data) > _THREAD_BYTES:
        return data, await asyncio.to_thread(_whole_object, data)
    return data, _whole_object(data)


async def read_body(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Return a body up to about ``limit`` bytes, and whether it is complete."""
    data = bytearray()
    async for part in response.aiter_bytes():
        data += part
        if len(data) > limit:
            return bytes(data), False
    return bytes(data), True


async def response_events(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a stream. Raises Unavailable if one is too long."""
    try:
        async for event in read_events(response.aiter_bytes(), MAX_ANSWER_BYTES):
            yield event
    except TooLongError:
        raise unavailable() from None


def chunks_of(data: bytes) -> list[tuple[bytes, Json | None]]:
    """Return the chunks in an event, each as text and as an object; None stands for ``[DONE]``.

    An event has one chunk, which may have several lines. But some servers do not write the empty
    line that ends an event.

    Raises:
        Unavailable: the event has something else.
    """
    if data.strip() == _DONE:
        return [(b"", None)]
    try:
        return [(data, _object(data))]
    except Unavailable:
        lines = [line for line in data.split(b"\n") if line.strip()]
        if len(lines) <= 1:
            raise
        return [chunk for line in lines for chunk in chunks_of(line)]


def as_chunk(completion: Json) -> Json:
    """Return a completion as the only chunk of a stream."""
    choices = []
    for choice in completion.get("choices") or []:
        delta = dict(choice.get("message") or {})
        if isinstance(delta.get("tool_calls"), list):  # in a stream they have an index
            delta["tool_calls"] = [
                {"index": index, **call} for index, call in enumerate(delta["tool_calls"])
            ]
        others = {name: value for name, value in choice.items() if name != "message"}
        choices.append({**others, "delta": delta})
    return {**completion, "object": "chat.completion.chunk", "choices": choices}


def _whole_object(data: bytes) -> Json:
    answer = _object(data)
    return without_halves(answer) if may_have_halves(data) else answer


def _object(data: bytes) -> Json:
    try:
        return read_lenient_object(data, name="The answer", max_values=MAX_ANSWER_VALUES)
    except JsonError as error:
        raise unavailable() from error
