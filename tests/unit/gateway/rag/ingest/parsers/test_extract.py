import pytest

from services.gateway.rag.ingest.parsers import extract
from services.gateway.rag.ingest.parsers.extract import (
    MAX_HEADING_CHARACTERS,
    Block,
    Headings,
    ParseError,
    add,
    paragraphs,
    trim,
)


def test_a_heading_closes_those_of_its_level_and_below() -> None:
    headings = Headings()
    path = []
    for level, heading in [(1, "A"), (2, "B  b"), (3, "C"), (2, "D"), (1, "E"), (3, ""), (4, "F")]:
        headings.enter(level, heading)
        path.append(str(headings))
    assert path == ["A", "A › B b", "A › B b › C", "A › D", "E", "E", "E › F"]


def test_paragraphs_are_separated_by_blank_lines() -> None:
    text = "xx\n\n  one\ntwo \n \t\n\nthree\n\n\nyy"
    found = list(paragraphs(text, 2, len(text) - 2))
    assert [text[start:end] for start, end in found] == ["one\ntwo", "three"]


def test_a_long_heading_is_cut() -> None:
    headings = Headings()
    headings.enter(1, "x" * 10_000)
    assert len(str(headings)) == MAX_HEADING_CHARACTERS


def test_blocks_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "MAX_BLOCKS", 2)
    blocks: list[Block] = []
    add(blocks, Block(0, 1))
    add(blocks, Block(1, 2))
    with pytest.raises(ParseError) as caught:
        add(blocks, Block(2, 3))
    assert caught.value.reason == "DOCUMENT_TOO_COMPLEX"


def test_nothing_is_left_of_white_space() -> None:
    assert list(trim("  a b  ", 0, 7)) == [(2, 5)]
    assert list(trim(" \n\t ", 0, 4)) == []
