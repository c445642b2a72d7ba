import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.ingest.parsers import files, html, markdown, plain
from services.gateway.rag.ingest.parsers.extract import ParseError
from tests.pdf import pdf as write_pdf


def test_a_document_without_text_is_refused() -> None:
    for kind, content in (("text/plain", b" \n"), ("application/pdf", write_pdf([[]]))):
        with pytest.raises(ParseError) as caught:
            files.parse(kind, content)
        assert caught.value.reason == "EMPTY_DOCUMENT"


def test_a_file_is_parsed_by_its_type() -> None:
    content = b"<h1>Doors</h1>"
    assert files.parse("text/html", content).text == "Doors"
    assert files.parse("text/plain", content).text == "<h1>Doors</h1>"


@given(st.text(alphabet="ab1 .\n#-`|>*_<&[]()!é🐈\t\\=~:", max_size=300))
def test_blocks_lie_in_order_and_in_the_text(text: str) -> None:
    for parse in (plain.parse, markdown.parse, html.parse):
        extract = parse(text.encode())
        end = 0
        for block in extract.blocks:
            assert end <= block.start < block.end <= len(extract.text)
            assert extract.text[block.start : block.end].strip()
            end = block.end
