"""Writes the chunks of a chat completion as the streaming events of OpenAI's Responses API.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import AsyncIterator, Iterator

from services.gateway.llm.types import Json, finish_reason
from services.gateway.openai.response_objects import (
    answer_name,
    call_item,
    finished,
    head,
    message_item,
    object_id,
    refusal_part,
    text_part,
)


async def response_events(body: Json, chunks: AsyncIterator[Json]) -> AsyncIterator[Json]:
    """Yield the events of the response to a request.

    Args:
        body: the request.
        chunks: the chunks of the chat completion that answers it.
    """
    writer = _Writer(body)
    async for chunk in chunks:
        for event in writer.add(chunk):
            yield event
    for event in writer.end():
        yield event


def error_event(error: Json, number: int) -> Json:
    """Return the event of an error in OpenAI's shape, which ends a stream."""
    # Some clients read the fields of the event, others those of its error.
    fields = {name: error.get(name) for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": number, **fields, "error": error}


class _Writer:
    """Writes the events of one response, numbered in order."""

    def __init__(self, body: Json) -> None:
        self._body = body
        self._name = ""
        self._response: Json = {}
        self._output: list[Json] = []
        self._message: int | None = None  # the position of the message that is being written
        self._calls: dict[int, int] = {}  # the positions of calls by their index in the chunks
        self._reason, self._usage = "", None
        self._count = 0

    def add(self, chunk: Json) -> Iterator[Json]:
        """Yield the events of a chunk."""
        self._usage = chunk.get("usage") or self._usage
        if not self._response:
            if not (chunk.get("id") or chunk.get("choices")):
                return  # Azure's first chunk says nothing about the answer
            yield from self._begin(chunk)
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            if delta.get("content"):
                yield from self._add_text(delta["content"], "output_text")
            if delta.get("refusal"):
                yield from self._add_text(delta["refusal"], "refusal")
            for call in delta.get("tool_calls") or []:
                yield from self._add_call(call)
        self._reason = finish_reason(chunk) or self._reason

    def _begin(self, chunk: Json) -> Iterator[Json]:
        self._name = answer_name(chunk)
        self._response = head(self._body, chunk, self._name)
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)

    def end(self) -> Iterator[Json]:
        """Yield the events after the last chunk."""
        if not self._response:
            yield from self._begin({})
        yield from self._close_message()
        for place in self._calls.values():
            yield from self._close_call(place)
        response = finished(self._response, self._output, self._reason, self._usage)
        yield self._event(f"response.{response['status']}", response=response)

    def _add_text(self, text: str, kind: str) -> Iterator[Json]:
        """Append to the last part of the message; a part of another kind begins a new one."""
        if self._message is None:
            self._message = len(self._output)
            item = message_item(object_id("msg", self._name, self._message), [], "in_progress")
            yield from self._open(item)
        parts = self._output[self._message]["content"]
        if not parts or parts[-1]["type"] != kind:
            if parts:
                yield from self._close_part()
            parts.append(text_part("") if kind == "output_text" else refusal_part(""))
            yield self._part_event("response.content_part.added", part=dict(parts[-1]))
        field = "text" if kind == "output_text" else "refusal"
        parts[-1][field] += text
        extra: Json = {"logprobs": []} if kind == "output_text" else {}
        yield self._part_event(f"response.{kind}.delta", delta=text, **extra)

    def _close_part(self) -> Iterator[Json]:
        assert self._message is not None  # noqa: S101 - the callers have opened a message
        part = self._output[self._message]["content"][-1]
        if part["type"] == "refusal":
            yield self._part_event("response.refusal.done", refusal=part["refusal"])
        else:
            yield self._part_event("response.output_text.done", text=part["text"], logprobs=[])
        yield self._part_event("response.content_part.done", part=part)

    def _close_message(self) -> Iterator[Json]:
        if self._message is None:
            return
        yield from self._close_part()
        yield self._close(self._message)
        self._message = None

    def _add_call(self, call: Json) -> Iterator[Json]:
        index, function = call.get("index") or 0, call.get("function") or {}
        if index not in self._calls:
            yield from self._close_message()
            place = self._calls[index] = len(self._output)
            started = {**call, "function": {**function, "arguments": ""}}
            item = call_item(object_id("fc", self._name, place), started, "in_progress")
            yield from self._open(item)
        place = self._calls[index]
        if arguments := function.get("arguments"):
            self._output[place]["arguments"] += arguments
            yield self._item_event("response.function_call_arguments.delta", place, delta=arguments)

    def _close_call(self, place: int) -> Iterator[Json]:
        item = self._output[place]
        yield self._item_event(
            "response.function_call_arguments.done",
            place,
            name=item["name"],
            arguments=item["arguments"],
        )
        yield self._close(place)

    def _open(self, item: Json) -> Iterator[Json]:
        self._output.append(item)
        place = len(self._output) - 1
        yield self._event("response.output_item.added", output_index=place, item=_copy(item))

    def _close(self, place: int) -> Json:
        item = self._output[place]
        item["status"] = "completed"
        return self._event("response.output_item.done", output_index=place, item=item)

    def _part_event(self, kind: str, **fields: object) -> Json:
        assert self._message is not None  # noqa: S101 - the callers have opened a message
        index = len(self._output[self._message]["content"]) - 1
        return self._item_event(kind, self._message, content_index=index, **fields)

    def _item_event(self, kind: str, place: int, **fields: object) -> Json:
        item_id = self._output[place]["id"]
        return self._event(kind, item_id=item_id, output_index=place, **fields)

    def _event(self, kind: str, **fields: object) -> Json:
        self._count += 1
        return {"type": kind, "sequence_number": self._count - 1, **fields}


def _copy(item: Json) -> Json:
    """Return an item that does not change while the answer is written."""
    return {**item, "content": list(item["content"])} if "content" in item else dict(item)
