from typing import Any

from services.gateway.llm.types import (
    Json,
    completion_text,
    delta_text,
    finish_reason,
    has_shape,
    token_usage,
)


def test_a_completion_is_read() -> None:
    message = {"role": "assistant", "content": "Hi."}
    completion: Json = {"choices": [{"message": message, "finish_reason": "stop"}]}
    assert (completion_text(completion), finish_reason(completion)) == ("Hi.", "stop")


def test_a_chunk_is_read() -> None:
    chunk: Json = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
    assert (delta_text(chunk), finish_reason(chunk)) == ("Hi", "")


def test_the_text_is_that_of_the_first_choice() -> None:
    second = {"index": 1, "delta": {"content": "b"}}
    assert delta_text({"choices": [second]}) == ""
    assert delta_text({"choices": [second, {"index": 0, "delta": {"content": "a"}}]}) == "a"


def test_missing_parts_are_empty() -> None:
    replies: list[Json] = [{}, {"choices": []}, {"choices": [{"message": None, "delta": None}]}]
    for reply in replies:
        assert completion_text(reply) == delta_text(reply) == finish_reason(reply) == ""
        assert token_usage(reply) == {}
    assert completion_text({"choices": [{"message": {"content": None}}]}) == ""


def test_usage_is_what_the_server_reports() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 3}
    assert token_usage({"usage": usage}) == {"prompt_tokens": 3}
    assert token_usage({"usage": None}) == {}
    odd: list[Any] = [None, "3", -1, True, [], 2**40, {}]
    for value in odd:
        assert token_usage({"usage": {"prompt_tokens": value, "completion_tokens": 2.0}}) == {
            "completion_tokens": 2
        }
        assert token_usage({"usage": value}) == {}


def test_choices_have_a_shape() -> None:
    good: list[Any] = [None, [], [{}], [{"message": None}], [{"message": {}, "delta": {}}]]
    assert all(has_shape({"choices": choices}) for choices in good)
    assert has_shape({})
    bad: list[Any] = [{}, "a", 0, [None], [[]], [{"message": "a"}], [{}, {"delta": []}]]
    assert not any(has_shape({"choices": choices}) for choices in bad)
