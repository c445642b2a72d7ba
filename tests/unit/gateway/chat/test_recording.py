import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.chat.recording import record, replay

HEAD = {"id": "1", "created": 1, "model": "m"}
CONTENTS = st.none() | st.text(max_size=3) | st.just([{"type": "text"}])
DELTAS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": CONTENTS,
        "refusal": st.none(),
        "reasoning": CONTENTS,
    },
)
CHOICES: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": DELTAS | st.none()},
    optional={"finish_reason": st.sampled_from([None, "stop"]), "filter": st.just({})},
)
CHUNKS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"id": st.sampled_from(["", "1"]), "choices": st.lists(CHOICES, max_size=2) | st.none()},
    optional={
        "usage": st.none() | st.just({"prompt_tokens": 1}),
        "obfuscation": st.text(max_size=2),
    },
)


@given(st.lists(CHUNKS, max_size=12))
def test_a_replay_equals_the_stream_field_by_field(chunks: list[dict[str, Any]]) -> None:
    items = json.loads(json.dumps(record(chunks)))
    assert list(replay(items)) == chunks


def chunk(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {**HEAD, "choices": [choice], **more}


def test_most_chunks_are_recorded_as_their_texts() -> None:
    chunks = [chunk("a"), chunk("b"), chunk("c"), {**HEAD, "choices": []}, chunk("d")]
    assert record(chunks) == [chunks[0], "b", "c", chunks[3], "d"]
    padded = [chunk("a", padding="x"), chunk("b", padding="y"), chunk("c", padding="x")]
    assert record(padded) == [padded[0], ["b", {"padding": "y"}], "c"]
