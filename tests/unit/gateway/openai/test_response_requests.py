from typing import Any

import pytest

from services.errors import InvalidArgument
from services.gateway.openai.response_requests import Untranslatable, to_chat

QUESTION = {"role": "user", "content": "Hi?"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "5"}


def messages(given: Any, **body: Any) -> Any:
    return to_chat({"input": given, **body})["messages"]


@pytest.mark.parametrize(
    "given",
    [
        "Hi?",
        [QUESTION],
        [QUESTION | {"type": "message"}],
        [{"role": "user", "content": [{"type": "input_text", "text": "Hi?"}]}],
    ],
)
def test_a_text_is_a_message(given: Any) -> None:
    assert messages(given) == [QUESTION]


def test_instructions_come_first() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert messages("Hi?", instructions="Be brief.") == [system, QUESTION]


def test_an_earlier_answer_is_a_message_of_the_assistant() -> None:
    part = {"type": "output_text", "text": "Yes?", "annotations": []}
    answer = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    assert messages([QUESTION, answer | {"status": "completed"}, QUESTION]) == [
        QUESTION,
        {"role": "assistant", "content": "Yes?"},
        QUESTION,
    ]


def test_calls_of_a_turn_share_a_message() -> None:
    answer = {"role": "assistant", "content": "Let me see."}
    given = [QUESTION, answer, CALL, CALL | {"call_id": "d"}, OUTPUT, OUTPUT | {"call_id": "d"}]
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": name, "type": "function", "function": function} for name in "cd"]
    assert messages(given) == [
        QUESTION,
        answer | {"tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "5"},
        {"role": "tool", "tool_call_id": "d", "content": "5"},
    ]
    assert messages([QUESTION, CALL, OUTPUT])[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": calls[:1],
    }


def test_pictures_and_files_are_parts() -> None:
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "data:image/png;base64,", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:,"},
    ]
    assert messages([{"role": "user", "content": parts}])[0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:,"}},
    ]


def test_fields_have_their_names_of_chat_completions() -> None:
    schema = {"type": "object"}
    body = {
        "input": "Hi?",
        "model": "m",
        "temperature": 0.5,
        "top_p": None,
        "max_output_tokens": 9,
        "text": {
            "format": {"type": "json_schema", "name": "A", "schema": schema, "strict": True},
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": None},
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "truncation": "disabled",
        "user": "u",
        "seed": 1,
    }
    function = {name: value for name, value in TOOL.items() if name != "type"}
    assert to_chat(body) == {
        "messages": [QUESTION],
        "model": "m",
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "A", "schema": schema, "strict": True},
        },
        "verbosity": "low",
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "user": "u",
        "seed": 1,
    }


def test_a_plain_request_is_the_same_as_a_plain_chat() -> None:
    body = {
        "input": "Hi?",
        "text": {"format": {"type": "text"}},
        "tools": [],
        "tool_choice": "auto",
    }
    assert to_chat(body) == {"messages": [QUESTION]}


def test_a_stream_reports_its_usage() -> None:
    chat = to_chat(
        {"input": "Hi?", "stream": True, "stream_options": {"include_obfuscation": True}}
    )
    assert chat["stream_options"] == {"include_usage": True}


def content(*parts: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [*parts]}]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"previous_response_id": "resp_1"}, "stateful"),
        ({"conversation": "conv_1"}, "stateful"),
        ({"prompt": {"id": "p"}}, "stateful"),
        ({"background": True}, "stateful"),
        ({"store": True}, "stateful"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "stateful"),
        (content({"type": "input_image", "file_id": "f"}), "stateful"),
        (content({"type": "input_file", "file_url": "https://x"}), "stateful"),
        ({"tools": [{"type": "web_search"}]}, "hosted_tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "file_search"}}, "hosted_tools"),
        ({"top_logprobs": 2}, "more_than_one_text"),
        ({"include": ["message.output_text.logprobs"]}, "more_than_one_text"),
        ({"truncation": "auto"}, "not_translatable"),
        ({"reasoning": {"summary": "auto"}}, "not_translatable"),
        ({"text": {"format": {"type": "grammar"}}}, "not_translatable"),
        ({"input": [{"type": "reasoning", "id": "rs_1"}]}, "not_translatable"),
        (content({"type": "input_video"}), "not_translatable"),
    ],
)
def test_what_chat_completions_lack_is_not_translated(body: Any, reason: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        to_chat({"input": "Hi?", **body})
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": ["Hi?"]}, "input[0]"),
        ({"input": [{"role": "critic", "content": "Hi?"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        (content("Hi?"), "input[0].content[0]"),
        (content({"type": "input_text"}), "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "output": ""}]}, "input[0].call_id"),
        ({"instructions": ["Be brief."]}, "instructions"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
        ({"text": "plain"}, "text"),
        ({"text": {"format": "plain"}}, "text.format"),
        ({"reasoning": "low"}, "reasoning"),
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools"),
        ({"include": "all"}, "include"),
    ],
)
def test_wrong_types_are_refused(body: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        to_chat({"input": "Hi?", **body})
    assert (caught.value.reason, caught.value.field) == ("BAD_INPUT", field)
