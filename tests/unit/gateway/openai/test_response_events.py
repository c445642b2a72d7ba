"""The official client's own reader of streams accepts the events, and says what they mean."""

import copy
from collections.abc import AsyncIterator
from typing import Any

from openai import omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from services.gateway.llm.types import Json
from services.gateway.openai.response_events import error_event, response_events
from services.gateway.openai.response_objects import response_object

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALLS = [
    [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}],
    [{"index": 0, "function": {"arguments": '{"a":'}}],
    [{"index": 0, "function": {"arguments": " 1}"}}],
    [{"index": 1, "id": "d", "function": {"name": "g", "arguments": "{}"}}],
]


def chunk(delta: Json, reason: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "chatcmpl-1", "created": 7, "model": "m-1", "choices": [choice]}


def text(*pieces: str, reason: str = "stop") -> list[Json]:
    head, tail = chunk({"role": "assistant", "content": ""}), chunk({}, reason)
    usage = {"id": "chatcmpl-1", "choices": [], "usage": USAGE}
    return [head, *(chunk({"content": piece}) for piece in pieces), tail, usage]


async def events(chunks: list[Json], **body: Any) -> list[Json]:
    async def each() -> AsyncIterator[Json]:
        for one in chunks:
            yield one

    return [copy.deepcopy(event) async for event in response_events(body, each())]


def read(found: list[Json]) -> Any:
    """Return the final response as the official client reads it."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    kind: Any = ResponseStreamEvent
    for event in found:
        state.handle_event(construct_type_unchecked(value=event, type_=kind))
    return state._completed_response


async def test_a_text_has_the_events_of_openai() -> None:
    found = await events(text("One ", "two."))
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[2]["item"]["content"] == []
    assert found[3]["part"]["text"] == ""
    assert read(found).output_text == "One two."
    assert read(found).usage.total_tokens == 5


async def test_a_stream_ends_with_the_response_that_a_whole_answer_is() -> None:
    body = {"temperature": 0.5}
    last = (await events(text("One ", "two."), **body))[-1]["response"]
    message = {"role": "assistant", "content": "One two."}
    whole = {
        **chunk({}),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    assert last == response_object(body, whole)


async def test_tool_calls_are_streamed_after_the_text() -> None:
    chunks = [chunk({"content": "Let me see."}), *(chunk({"tool_calls": one}) for one in CALLS)]
    found = await events([*chunks, chunk({}, "tool_calls")])
    output = read(found).output
    assert output[0].content[0].text == "Let me see."
    calls = [(one.call_id, one.name, one.arguments) for one in output[1:]]
    assert calls == [("c", "f", '{"a": 1}'), ("d", "g", "{}")]
    deltas = [event["delta"] for event in found if event["type"].endswith("arguments.delta")]
    assert deltas == ['{"a":', " 1}", "{}"]
    done = [event for event in found if event["type"].endswith("arguments.done")]
    assert [event["arguments"] for event in done] == ['{"a": 1}', "{}"]


async def test_a_refusal_is_a_part() -> None:
    found = await events([chunk({"refusal": "N"}), chunk({"refusal": "o."}), chunk({}, "stop")])
    [item] = read(found).output
    assert item.content[0].refusal == "No."


async def test_a_text_and_a_refusal_are_two_parts_of_a_message() -> None:
    found = await events([*text("Well.")[:2], chunk({"refusal": "No."}), chunk({}, "stop")])
    [item] = read(found).output
    assert [part.type for part in item.content] == ["output_text", "refusal"]


async def test_an_incomplete_answer_says_why() -> None:
    last = (await events(text("One", reason="length")))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_first_chunk_that_says_nothing_is_left_out() -> None:
    azure = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    assert await events([azure, *text("One")]) == await events(text("One"))


async def test_an_empty_stream_is_an_empty_response() -> None:
    found = await events([])
    assert found[-1]["response"]["output"] == []


def test_an_error_has_the_fields_that_clients_read() -> None:
    error = {"message": "It is gone.", "type": "server_error", "param": None, "code": "gone"}
    event = error_event(error, 4)
    assert (event["type"], event["sequence_number"]) == ("error", 4)
    assert event["message"] == event["error"]["message"] == "It is gone."
