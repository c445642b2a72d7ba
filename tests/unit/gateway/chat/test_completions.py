from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.chat.completions import from_text, is_cacheable, is_text_delta, join, replay
from services.gateway.llm.types import completion_text, delta_text, token_usage

HEAD = {"id": "1", "created": 1, "model": "m", "object": "chat.completion.chunk"}


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def stream(pieces: list[str], reason: str = "stop") -> list[dict[str, Any]]:
    usage = {**HEAD, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    body = [chunk({"content": piece}) for piece in pieces]
    return [chunk({"role": "assistant", "content": ""}), *body, chunk({}, reason), usage]


@given(st.lists(st.text(min_size=1), min_size=1))
def test_a_joined_stream_replays_in_the_same_pieces(pieces: list[str]) -> None:
    completion = join(stream(pieces))
    assert completion is not None
    assert is_cacheable(completion)
    assert completion_text(completion) == "".join(pieces)
    again = list(replay(completion, pieces, include_usage=True))
    assert [delta_text(one) for one in again if delta_text(one)] == pieces
    assert join(again) == completion
    assert token_usage(completion) == {"prompt_tokens": 1, "completion_tokens": 2}


def test_a_replay_has_the_usage_only_if_it_is_wanted() -> None:
    completion = join(stream(["a"]))
    assert completion is not None
    chunks = list(replay(completion, ["a"], include_usage=False))
    assert all(one["choices"] and "usage" not in one for one in chunks)
    *chunks, last = replay(completion, ["a"], include_usage=True)
    assert all(one["usage"] is None for one in chunks)
    assert (last["choices"], last["usage"]) == ([], completion["usage"])


@given(st.lists(st.text(min_size=1), min_size=1), st.data())
def test_a_stream_truncated_anywhere_is_no_completion(
    pieces: list[str], data: st.DataObject
) -> None:
    chunks = stream(pieces)
    assert join(chunks[: data.draw(st.integers(0, len(chunks) - 2))]) is None


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_a_completion_that_did_not_end_by_itself_is_not_cacheable(reason: str) -> None:
    completion = join(stream(["a"], reason))
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


@pytest.mark.parametrize("delta", [{"tool_calls": [{}]}, {"refusal": "no"}, {"audio": {"id": 1}}])
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
