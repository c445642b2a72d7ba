from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.chat.cache_key import Controls, read
from services.gateway.chat.completions import join, replay, storable
from services.gateway.llm.types import completion_text, delta_text, token_usage

HEAD = {"id": "1", "created": 1, "model": "m", "object": "chat.completion.chunk"}


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def whole(pieces: list[str], reason: str = "stop") -> list[dict[str, Any]]:
    counted = {**HEAD, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    body = [chunk({"content": part}) for part in pieces]
    return [chunk({"role": "assistant", "content": ""}), *body, chunk({}, reason), counted]


@given(st.lists(st.text(min_size=1), min_size=1))
def test_what_is_joined_replays_in_the_same_pieces(pieces: list[str]) -> None:
    reply = join(whole(pieces))
    assert reply is not None
    assert storable(reply)
    assert completion_text(reply) == "".join(pieces)
    again = list(replay(reply, pieces, with_usage=True))
    assert [delta_text(one) for one in again if delta_text(one)] == pieces
    assert join(again) == reply
    assert token_usage(reply) == {"prompt_tokens": 1, "completion_tokens": 2}


@given(st.lists(st.text(min_size=1), min_size=1), st.data())
def test_a_stream_cut_anywhere_is_no_reply(pieces: list[str], data: st.DataObject) -> None:
    chunks = whole(pieces)
    assert join(chunks[: data.draw(st.integers(0, len(chunks) - 2))]) is None


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_only_what_ended_by_itself_is_kept(reason: str) -> None:
    reply = join(whole(["a"], reason))
    assert reply is not None
    assert not storable(reply)


def test_more_than_text_is_not_joined() -> None:
    deltas: list[dict[str, Any]] = [{"tool_calls": [{}]}, {"refusal": "no"}]
    for delta in deltas:
        assert join([chunk(delta), chunk({}, "stop")]) is None
    second = {**HEAD, "choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]}
    assert join([chunk({"content": "a"}), second, chunk({}, "stop")]) is None


def keyed(**body: Any) -> bool:
    body.setdefault("messages", [{"role": "user", "content": "Hi?"}])
    return read(body, Controls(), hottest=1.0).request is not None


def test_what_has_a_key() -> None:
    assert keyed()
    assert keyed(temperature=1, n=1, stop=["x"], user="u")
    assert keyed(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}])
    passing: list[dict[str, Any]] = [
        {"temperature": 1.01}, {"n": 2}, {"logprobs": True}, {"tools": [{}]},
        {"temperature": "hot"},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "assistant", "content": "Hi."}]},
        {"messages": [{"role": "user", "content": "  "}]},
        {"messages": [{"role": "tool", "content": "1"}, {"role": "user", "content": "Hi?"}]},
    ]  # fmt: skip
    for body in passing:
        assert not keyed(**body), body


def test_streamed_and_plain_calls_share_a_key() -> None:
    messages = [{"role": "user", "content": "Hi?"}]
    plain = read({"messages": messages}, Controls(), hottest=1)
    streamed = read({"messages": messages, "stream": True}, Controls(), hottest=1)
    assert plain.request == streamed.request
