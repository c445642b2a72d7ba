from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.chat.completions import (
    from_text,
    is_cacheable,
    is_text_delta,
    join,
    split,
    without_usage,
)
from services.gateway.llm.types import completion_text, delta_text, token_usage

HEAD = {"id": "1", "created": 1, "model": "m", "object": "chat.completion.chunk"}


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def stream_of(pieces: list[str], reason: str = "stop") -> list[dict[str, Any]]:
    usage = {**HEAD, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    body = [chunk({"content": piece}) for piece in pieces]
    return [chunk({"role": "assistant", "content": ""}), *body, chunk({}, reason), usage]


@given(st.lists(st.text(min_size=1), min_size=1))
def test_a_joined_stream_is_split_into_the_same_pieces(pieces: list[str]) -> None:
    completion = join(stream_of(pieces))
    assert completion is not None
    assert is_cacheable(completion)
    assert completion_text(completion) == "".join(pieces)
    again = list(split(completion, pieces))
    assert [delta_text(one) for one in again if delta_text(one)] == pieces
    assert join(again) == completion
    assert token_usage(completion) == {"prompt_tokens": 1, "completion_tokens": 2}


def test_a_stream_has_the_usage_only_if_it_is_wanted() -> None:
    completion = join(stream_of(["a"]))
    assert completion is not None
    *chunks, last = split(completion, ["a"])
    assert all(one["usage"] is None for one in chunks)
    assert (last["choices"], last["usage"]) == ([], completion["usage"])
    wanted = list(filter(None, map(without_usage, [*chunks, last])))
    assert all(one["choices"] and "usage" not in one for one in wanted)
    assert len(wanted) == len(chunks)
    # Some servers report the usage although nobody asks, and Azure's first chunk has no choices.
    own = {**chunk({"content": "a"}), "usage": {"prompt_tokens": 1}}
    first: dict[str, Any] = {"id": "", "choices": [], "prompt_filter_results": []}
    assert [without_usage(own), without_usage(first)] == [own, first]


def test_fields_that_openai_does_not_document_are_joined() -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "reasoning_content": "Let ", "reasoning": None},
        {"content": None, "reasoning_content": "me.", "details": [{"index": 0, "text": "x"}]},
        {"content": "Yes", "details": [{"index": 0, "text": "y"}, {"index": 1, "text": "z"}]},
        {"content": ".", "annotations": [{"url": "a"}], "scores": {"a": 1, "t": "p"}},
        {"annotations": [{"url": "b"}], "scores": {"a": 2, "t": "q"}},
    ]
    azure: dict[str, Any] = {"id": "", "model": "", "created": 0, "choices": [], "filter": [1]}
    chunks = [azure, *map(chunk, deltas), chunk({}, "stop")]
    chunks[2] |= {"obfuscation": "abc", "system_fingerprint": "fp"}
    chunks[2]["choices"][0]["content_filter_results"] = {"hate": "safe"}
    chunks[-1]["choices"][0] |= {"content_filter_results": {}, "stop_reason": None}
    completion = join(chunks)
    assert completion == {
        **{name: HEAD[name] for name in ("id", "created", "model")},
        "filter": [1],
        "system_fingerprint": "fp",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Yes.",
                    "refusal": None,
                    "reasoning_content": "Let me.",
                    "details": [{"index": 0, "text": "xy"}, {"index": 1, "text": "z"}],
                    "annotations": [{"url": "a"}, {"url": "b"}],
                    "scores": {"a": 2, "t": "pq"},
                },
                "logprobs": None,
                "content_filter_results": {"hate": "safe"},
                "stop_reason": None,
                "finish_reason": "stop",
            }
        ],
    }
    assert is_cacheable(completion)
    again = join(list(split(completion, ["Yes."])))
    assert again is not None
    assert again["choices"] == completion["choices"]


def test_a_completion_that_is_not_one_text_is_one_chunk() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    completion: dict[str, Any] = {"id": "1", "choices": [{"index": 0, "message": message}]}
    [only] = split(completion, [])
    assert only["choices"] == [
        {"index": 0, "delta": {**message, "tool_calls": [{"index": 0, **call}]}}
    ]
    assert [one["choices"] for one in split({"choices": []}, [])] == [[]]


def test_a_long_stream_is_joined_in_linear_time() -> None:
    deltas = [chunk({"content": "x", "reasoning": "y" * 10}) for _ in range(50_000)]
    completion = join([*deltas, chunk({}, "stop")])
    assert completion is not None
    assert len(completion["choices"][0]["message"]["reasoning"]) == 500_000


@given(st.lists(st.text(min_size=1), min_size=1), st.data())
def test_a_stream_truncated_anywhere_is_no_completion(
    pieces: list[str], data: st.DataObject
) -> None:
    chunks = stream_of(pieces)
    assert join(chunks[: data.draw(st.integers(0, len(chunks) - 2))]) is None


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_a_completion_that_did_not_end_by_itself_is_not_cacheable(reason: str) -> None:
    completion = join(stream_of(["a"], reason))
    assert completion is not None
    assert not is_cacheable(completion)


@pytest.mark.parametrize(
    "message",
    [
        {"content": ""},
        {"content": None},
        {"content": "a", "tool_calls": [{}]},
        {"content": "a", "refusal": "No."},
    ],
)
def test_a_completion_that_is_not_text_alone_is_not_cacheable(message: Any) -> None:
    choice = {"message": message, "finish_reason": "stop"}
    assert not is_cacheable({"choices": [choice]})


def test_two_choices_are_not_cacheable() -> None:
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    assert is_cacheable({"choices": [choice]})
    assert not is_cacheable({"choices": [choice, choice]})
    assert not is_cacheable({})


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{}]},
        {"refusal": "no"},
        {"audio": {"id": 1}},
        {"content": [{"type": "text"}]},
    ],
)
def test_a_stream_that_is_not_text_alone_is_not_joined(delta: dict[str, Any]) -> None:
    assert join([chunk({"content": "a"}), chunk(delta), chunk({}, "stop")]) is None


def test_a_stream_of_two_choices_is_not_joined() -> None:
    second = chunk({"content": "b"}, index=1)
    assert join([chunk({"content": "a"}), second, chunk({}, "stop")]) is None


def test_only_a_chunk_that_appends_text_is_a_text_delta() -> None:
    assert is_text_delta(chunk({"content": "a"}))
    assert not is_text_delta(chunk({"role": "assistant", "content": ""}))
    assert not is_text_delta(chunk({"content": "a"}, "stop"))
    assert not is_text_delta({**HEAD, "choices": []})


def test_a_text_becomes_a_completion_that_cost_nothing() -> None:
    completion = from_text("Yes.", "m", "e", 5.5)
    assert is_cacheable(completion)
    assert completion["choices"][0]["message"]["content"] == "Yes."
    assert (completion["id"], completion["created"], completion["model"]) == ("chatcmpl-e", 5, "m")
    assert set(completion["usage"].values()) == {0}
