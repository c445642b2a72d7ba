import pytest

from services.gateway.rag.ingest.parsers import builder
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import Block, Extract, ParseError


def test_blocks_lie_where_they_were_added() -> None:
    built = ExtractBuilder()
    built.page = 2
    built.add("  One.  ")
    built.add(" \n ")
    built.add_heading(1, " The\n end ")
    built.add_heading(2, " ")
    built.add_rows(["a | b", "c | d"])
    built.add_extract(Extract("x\ny", [Block(0, 1), Block(2, 3, True, "S", 7)]))
    built.add_extract(Extract(" ", []))
    extract = built.build(" A \n title ")
    assert extract.title == "A title"
    assert [
        (extract.text[one.start : one.end], one.by_lines, one.section, one.page)
        for one in extract.blocks
    ] == [
        ("One.", False, "", 2),
        ("The end", False, "The end", 2),
        ("a | b\nc | d", True, "The end", 2),
        ("x", False, "", 0),
        ("y", True, "S", 7),
    ]


def test_the_text_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "MAX_TEXT_BYTES", 10)
    built = ExtractBuilder()
    built.add("12345678")
    with pytest.raises(ParseError) as caught:
        built.add("9")
    assert caught.value.reason == "TOO_LARGE"
