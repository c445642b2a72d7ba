import pytest

from services.gateway.rag.ingest.parsers import plain
from services.gateway.rag.ingest.parsers.extract import ParseError


def test_blocks_are_paragraphs() -> None:
    extract = plain.parse("One\ntwo.\r\n\r\n  Three é.\n".encode())
    assert extract.text == "One\ntwo.\n\n  Three é.\n"
    assert [extract.text[one.start : one.end] for one in extract.blocks] == [
        "One\ntwo.",
        "Three é.",
    ]


def test_a_paragraph_of_many_lines_is_a_table() -> None:
    rows = "1,2,3\n" * 5_000
    assert [one.by_lines for one in plain.parse(f"One.\n\n{rows}".encode()).blocks] == [False, True]


def test_only_utf8_is_parsed() -> None:
    with pytest.raises(ParseError):
        plain.parse("é".encode("latin-1"))
