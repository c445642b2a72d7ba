import pytest

from services.errors import InvalidArgument
from services.gateway.rag.ingest.parsers import plain


def test_blocks_are_paragraphs() -> None:
    extract = plain.parse("One\ntwo.\r\n\r\n  Three é.\n".encode())
    assert extract.text == "One\ntwo.\n\n  Three é.\n"
    assert [extract.text[one.start : one.end] for one in extract.blocks] == [
        "One\ntwo.",
        "Three é.",
    ]


def test_only_utf8_is_parsed() -> None:
    with pytest.raises(InvalidArgument):
        plain.parse("é".encode("latin-1"))
