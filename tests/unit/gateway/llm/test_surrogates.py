import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.llm.surrogates import SurrogateJoiner, may_have_halves, without_halves

HIGH, LOW = "\ud83d", "\ude42"


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def feed(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    joiner = SurrogateJoiner()
    return [
        joiner.feed(one, may_have_halves=may_have_halves(json.dumps(one).encode()))
        for one in chunks
    ]


def texts(chunks: list[dict[str, Any]], field: str = "content") -> list[str]:
    return [one["choices"][0]["delta"].get(field) for one in chunks]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.data())
def test_halves_are_joined_wherever_a_text_is_split(text: str, data: st.DataObject) -> None:
    units = text.encode("utf-16-le")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(units) // 2))))
    starts, ends = [0, *cuts], [*cuts, len(units) // 2]
    pieces = [
        units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass")
        for start, end in zip(starts, ends, strict=True)
    ]
    read = feed(*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"))
    assert "".join(one or "" for one in texts(read)) == text


def test_each_field_and_each_choice_has_its_own_halves() -> None:
    read = feed(
        chunk({"content": HIGH, "reasoning": HIGH, "calls": [{"index": 3, "text": HIGH}]}),
        chunk({"content": "x"}, index=1),
        chunk({"content": LOW, "reasoning": LOW, "calls": [{"index": 3, "text": LOW}]}),
    )
    assert read[2] == chunk(
        {"content": "🙂", "reasoning": "🙂", "calls": [{"index": 3, "text": "🙂"}]}
    )
    assert texts(read) == ["", "x", "🙂"]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((LOW, "a"), ["\ufffd", "a", None]),
        ((HIGH, "a"), ["", "\ufffda", None]),
        ((HIGH, HIGH + LOW), ["", "\ufffd🙂", None]),
        (("a" + HIGH,), ["a", "\ufffd"]),
    ],
)
def test_a_half_alone_becomes_the_replacement_character(
    pieces: tuple[str, ...], expected: list[str | None]
) -> None:
    read = feed(*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"))
    assert texts(read) == expected
    assert json.dumps(read, ensure_ascii=False).encode()


def test_a_chunk_without_halves_stays_as_it_is() -> None:
    plain = chunk({"content": "a"}) | {"usage": None}
    joiner = SurrogateJoiner()
    assert joiner.feed(plain, may_have_halves=False) is plain
    assert joiner.feed({"choices": []}, may_have_halves=True) == {"choices": []}


def test_halves_anywhere_in_whole_data_are_replaced() -> None:
    value = {"a" + HIGH: [HIGH + LOW, {"b": LOW}, 1, None, 2.5, True]}
    assert without_halves(value) == {"a\ufffd": ["🙂", {"b": "\ufffd"}, 1, None, 2.5, True]}


@pytest.mark.parametrize("data", [rb'"\ud83d"', rb'"\uDE42"', HIGH.encode(errors="surrogatepass")])
def test_halves_are_found_in_the_text(data: bytes) -> None:
    assert may_have_halves(data)
    assert not may_have_halves("Ünïcode 🙂 한".encode())
