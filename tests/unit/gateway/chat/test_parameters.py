from typing import Any

import pytest

from services.errors import InvalidArgument
from services.gateway.chat.parameters import check_parameters

QUESTION = {"role": "user", "content": "Hi?"}
VALUES: list[Any] = [None, True, 1, 2.5, "x", [], [1], ["x"], {}, {"a": 1}]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"temperature": 1, "top_p": 0.5, "max_tokens": 10.0, "n": 1, "stop": ["x"], "user": "u"},
        {"stream": True, "stream_options": {"include_usage": True, "other": 1}, "stop": "x"},
        {"stream": None, "stream_options": None, "model": None, "temperature": None},
        {"tools": [{}], "response_format": {"type": "text"}, "unknown": [{"a": 1}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}, QUESTION]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": ""}]}
            ]
        },
    ],
)
def test_a_request_of_openais_api_passes(parameters: dict[str, Any]) -> None:
    check_parameters({"messages": [QUESTION], **parameters})


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("model", [None, "x"]),
        ("stream", [None, True]),
        ("temperature", [None, 1, 2.5]),
        ("max_tokens", [None, 1]),
        ("n", [None, 1]),
        ("stop", [None, "x", [], ["x"]]),
        ("stream_options", [None, {}, {"a": 1}]),
        ("response_format", [None, {}, {"a": 1}]),
        ("tools", [None, [], [1], ["x"]]),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_name(name: str, valid: list[Any]) -> None:
    for value in VALUES:
        if value in valid and type(value) in map(type, valid):
            check_parameters({"messages": [QUESTION], name: value})
        else:
            assert refused({"messages": [QUESTION], name: value}) == name


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("Hi?", "messages[1]"),
        (None, "messages[1]"),
        ({}, "messages[1].role"),
        ({"role": 5}, "messages[1].role"),
        ({"role": ["user"], "content": "x"}, "messages[1].role"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "system", "content": None}, "messages[1].content"),
        ({"role": "tool", "tool_call_id": "c"}, "messages[1].content"),
        ({"role": "user", "content": {"text": "x"}}, "messages[1].content"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "assistant", "tool_calls": {}}, "messages[1].tool_calls"),
    ],
)
def test_a_bad_message_is_refused_by_its_place(message: Any, place: str) -> None:
    assert refused({"messages": [QUESTION, message]}) == place


def test_the_usage_is_asked_for_by_a_boolean() -> None:
    options = {"stream_options": {"include_usage": "yes"}}
    assert refused({"messages": [QUESTION], **options}) == "stream_options.include_usage"


def refused(body: dict[str, Any]) -> str:
    with pytest.raises(InvalidArgument) as caught:
        check_parameters(body)
    assert caught.value.reason == "BAD_PARAMETER"
    assert caught.value.field in caught.value.message
    return caught.value.field
