from typing import Any

import pytest

from services.errors import InvalidArgument
from services.gateway.cache.types import MAX_PROMPT_BYTES, Request
from services.gateway.chat.cache_key import read_request
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.llm.types import Json

QUESTION = {"role": "user", "content": "Hi?"}
REPLY = {"role": "assistant", "content": "Yes?"}
TOOL = {"type": "function", "function": {"name": "f"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:"}}


def read(controls: CacheControls | None = None, **body: Any) -> ChatRequest:
    body.setdefault("messages", [QUESTION])
    return read_request(body, controls or CacheControls(), max_temperature=1.0)


def key(**body: Any) -> Request:
    request = read(**body).cache_request
    assert request is not None
    return request


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"temperature": 1, "n": 1, "stop": ["x"], "user": "u"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}]},
    ],
)
def test_text_may_be_cached(body: dict[str, Any]) -> None:
    assert key(**body).prompt == "Hi?"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"temperature": 1.01}, "temperature"),
        ({"n": 2}, "more_than_one_text"),
        ({"logprobs": True}, "more_than_one_text"),
        ({"tools": [{}]}, "hosted_tools"),
        ({"tools": [{"type": "web_search"}]}, "hosted_tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "f"}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, "not_text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}, PICTURE]}]},
            "not_text",
        ),
        ({"messages": [{"role": "assistant", "content": "Hi."}]}, "not_from_user"),
        ({"messages": [{"role": "user", "content": "  "}]}, "empty_prompt"),
        ({"messages": [{"role": "tool", "content": "1"}, QUESTION]}, "not_text"),
        (
            {"messages": [{"role": "user", "content": "x" * (MAX_PROMPT_BYTES + 1)}]},
            "prompt_too_long",
        ),
    ],
)
def test_other_requests_bypass_the_cache(body: dict[str, Any], reason: str) -> None:
    request = read(**body)
    assert request.cache_request is None
    assert request.bypass_reason == reason


OTHER_TOOL = {"type": "function", "function": {"name": "g", "description": "G."}}


def test_declared_tools_are_part_of_the_key() -> None:
    declared: list[dict[str, Any]] = [
        {},
        {"tools": [TOOL]},
        {"tools": [TOOL, OTHER_TOOL]},
        {"tools": [TOOL], "tool_choice": "none"},
        {"tools": [TOOL], "parallel_tool_calls": False},
        {"functions": [{"name": "f"}]},
        {"functions": [{"name": "f"}], "function_call": "none"},
    ]
    keys = {key(**body).context.fingerprint for body in declared}
    assert len(keys) == len(declared)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"tools": [TOOL, OTHER_TOOL]}, {"tools": [OTHER_TOOL, TOOL]}),
        ({"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": "auto"}),
        ({}, {"tools": [], "tool_choice": "none", "parallel_tool_calls": True}),
        ({}, {"tools": None, "functions": None, "tool_choice": "auto"}),
        (
            {"functions": [{"name": "f"}]},
            {"functions": [{"name": "f"}], "function_call": "auto"},
        ),
    ],
)
def test_requests_that_mean_the_same_tools_have_one_key(one: Json, other: Json) -> None:
    assert key(**one) == key(**other)


def test_no_curated_entry_answers_a_request_with_tools() -> None:
    assert key(tools=[TOOL]).curated_for is None


def test_a_caller_may_bypass_the_cache() -> None:
    for no_cache, no_store, bypasses in [(True, True, True), (True, False, False)]:
        request = read(CacheControls(no_cache=no_cache, no_store=no_store))
        assert (request.cache_request is None) == bypasses


def test_the_default_temperature_counts() -> None:
    request = read_request({"messages": [QUESTION]}, CacheControls(), max_temperature=0.9)
    assert request.cache_request is None


@pytest.mark.parametrize("messages", [None, [], "Hi?", {}])
def test_a_request_needs_messages(messages: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(messages=messages)
    assert (caught.value.reason, caught.value.field) == ("NO_MESSAGES", "messages")


def test_how_an_answer_is_delivered_makes_no_difference() -> None:
    assert key() == key(stream=True, stream_options={"include_usage": True}, user="u")


def test_all_that_an_answer_depends_on_makes_a_difference() -> None:
    others: list[dict[str, Any]] = [
        {"model": "m"},
        {"temperature": 0.5},
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "Be brief."}, QUESTION]},
        {"messages": [QUESTION, {"role": "assistant", "content": "Hi."}, QUESTION]},
        {"messages": [{"role": "user", "content": "Ho?"}]},
    ]
    keys = [key(), *(key(**body) for body in others)]
    assert len({(one.context.fingerprint, one.prompt) for one in keys}) == len(keys)


SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}]


def test_a_system_message_keeps_its_place() -> None:
    developer = {"role": "developer", "content": "Be kind."}
    orders = [
        [SYSTEM, *HELLO, QUESTION],
        [HELLO[0], SYSTEM, HELLO[1], QUESTION],
        [*HELLO, SYSTEM, QUESTION],
        [SYSTEM, developer, *HELLO, QUESTION],
        [developer, SYSTEM, *HELLO, QUESTION],
        [SYSTEM, *HELLO, developer, QUESTION],
        [developer, *HELLO, SYSTEM, QUESTION],
    ]
    keys = {key(messages=messages).context.fingerprint for messages in orders}
    assert len(keys) == len(orders)


def test_only_the_first_system_messages_are_the_system_prompt() -> None:
    context = key(messages=[SYSTEM, QUESTION]).context
    assert context.history == []
    later = key(messages=[*HELLO, SYSTEM, QUESTION]).context
    assert later.history == [("user", "Hello."), ("assistant", "Hi."), ("system", "Be brief.")]
    assert later.parts["system_prompt"] == key().context.parts["system_prompt"]


def test_a_name_is_part_of_the_key() -> None:
    def named(message: dict[str, Any], name: str) -> dict[str, Any]:
        return message | {"name": name}

    conversations = [
        [QUESTION],
        [named(QUESTION, "Ann")],
        [named(QUESTION, "Bob")],
        [*HELLO, QUESTION],
        [named(HELLO[0], "Ann"), HELLO[1], QUESTION],
        [*HELLO, named(QUESTION, "Ann")],
        [SYSTEM, QUESTION],
        [named(SYSTEM, "Ann"), QUESTION],
    ]
    keys = {key(messages=messages).context.fingerprint for messages in conversations}
    assert len(keys) == len(conversations)
    assert key(messages=[named(QUESTION, "Ann")]).prompt == "Hi?"
    assert key(messages=[named(QUESTION, "")]) == key()


def test_other_fields_of_a_message_are_part_of_the_key() -> None:
    thoughtful = HELLO[1] | {"reasoning_content": "A greeting."}
    echoed: dict[str, Any] = HELLO[1] | {"refusal": None, "annotations": []}
    plain, other, same = (
        key(messages=[HELLO[0], message, QUESTION]) for message in (HELLO[1], thoughtful, echoed)
    )
    assert plain == same
    assert plain.context.fingerprint != other.context.fingerprint


def test_a_role_cannot_pose_as_a_named_speaker() -> None:
    posing = {"role": 'user:{"name":"Ann"}', "content": "Hello."}
    assert read(messages=[posing, QUESTION]).cache_request is None


def test_entries_of_an_earlier_key_are_not_found() -> None:
    assert key(model="m").context.model == "chat/2:m"


def test_a_request_says_how_it_is_delivered() -> None:
    assert not read().is_streamed
    assert not read(stream_options=None).includes_usage
    streamed = read(stream=True, stream_options={"include_usage": True})
    assert (streamed.is_streamed, streamed.includes_usage) == (True, True)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({"model": "m", "temperature": 0.5, "stop": ["x"]}, "m"),
        ({"model": "m", "response_format": {"type": "text"}}, "m"),
        ({"model": "m", "messages": [{"role": "system", "content": "Be brief."}, QUESTION]}, "m"),
        ({"model": "m", "response_format": {"type": "json_object"}}, None),
        ({"model": "m", "messages": [QUESTION, REPLY, QUESTION]}, None),
    ],
)
def test_curated_entries_answer_first_questions_in_text(body: Json, model: str | None) -> None:
    assert key(**body).curated_for == model
