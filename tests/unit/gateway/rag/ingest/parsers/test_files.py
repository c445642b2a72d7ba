import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.gateway.rag.ingest.parsers import files, html, markdown, plain
from tests.pdf import pdf as write_pdf


def test_a_document_without_text_is_refused() -> None:
    for kind, content in (("text/plain", b" \n"), ("application/pdf", write_pdf([[]]))):
        with pytest.raises(InvalidArgument) as caught:
            files.parse(kind, content)
        assert caught.value.reason == "EMPTY_DOCUMENT"


def test_an_unsupported_declared_type_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        files.media_type("application/zip", "a.md", b"x")
    assert caught.value.reason == "UNKNOWN_MEDIA_TYPE"
    assert "text/markdown" in caught.value.message


def test_a_file_is_parsed_by_its_type() -> None:
    content = b"<h1>Doors</h1>"
    assert files.parse("text/html", content).text == "Doors"
    assert files.parse("text/plain", content).text == "<h1>Doors</h1>"


@pytest.mark.parametrize(
    ("declared", "name", "content", "kind"),
    [
        ("", "a.md", b"# x", "text/markdown"),
        ("", "a", b"%PDF-1.4", "application/pdf"),
        ("", "a.txt", b"\n <!doctype HTML><p>", "text/html"),
        ("", "page.html", b"<p>", "text/html"),
        ("", "a.zip", b"x", "text/plain"),
        ("Text/HTML; charset=utf-8", "a.md", b"x", "text/html"),
    ],
)
def test_the_media_type_is_detected(declared: str, name: str, content: bytes, kind: str) -> None:
    assert files.media_type(declared, name, content) == kind


@settings(deadline=None)
@given(st.text(alphabet="ab1 .\n#-`|>*_<&[]()!é🐈\t\\=~:", max_size=300))
def test_blocks_lie_in_order_and_in_the_text(text: str) -> None:
    for parse in (plain.parse, markdown.parse, html.parse):
        extract = parse(text.encode())
        end = 0
        for block in extract.blocks:
            assert end <= block.start < block.end <= len(extract.text)
            assert extract.text[block.start : block.end].strip()
            end = block.end
