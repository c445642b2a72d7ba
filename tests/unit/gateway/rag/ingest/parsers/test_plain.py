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


def test_only_utf8_is_parsed() -> None:
    with pytest.raises(ParseError):
        plain.parse("é".encode("latin-1"))
