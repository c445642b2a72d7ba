import pytest

from services.gateway.rag.ingest.parsers import epub
from services.gateway.rag.ingest.parsers.extract import ParseError
from tests import office_files

ENCRYPTION = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<EncryptedData xmlns="http://www.w3.org/2001/04/xmlenc#"><CipherData>
<CipherReference URI="OEBPS/chapter%200.xhtml"/></CipherData></EncryptedData></encryption>"""


def test_chapters_are_read_in_order() -> None:
    chapters = ["<html><body><h1>One</h1><p>It opens.</p></body></html>", "<h1>Two</h1>", "<p> "]
    extract = epub.parse(office_files.epub("The book", chapters))
    assert extract.title == "The book"
    assert [(one.section, extract.text[one.start : one.end]) for one in extract.blocks] == [
        ("One", "One"),
        ("One", "It opens."),
        ("Two", "Two"),
    ]


def test_an_encrypted_book_is_named() -> None:
    book = office_files.epub("The book", ["<p>x"])
    locked = office_files.added(book, {"META-INF/encryption.xml": ENCRYPTION})
    with pytest.raises(ParseError) as caught:
        epub.parse(locked)
    assert caught.value.reason == "LOCKED_DOCUMENT"


def test_a_missing_chapter_is_named() -> None:
    package = "<package><manifest><item id='a' href='b.xhtml' media-type='application/xhtml+xml'/>"
    package += "</manifest><spine><itemref idref='a'/><itemref idref='x'/></spine></package>"
    container = "<container><rootfiles><rootfile full-path='a.opf'/></rootfiles></container>"
    book = {"META-INF/container.xml": container, "a.opf": package}
    assert epub.parse(office_files.zipped(book)).warnings == ["The chapter 'b.xhtml' is missing."]


@pytest.mark.parametrize("container", ["", "<a/>", "<rootfile full-path='none'/>"])
def test_a_broken_book_is_refused(container: str) -> None:
    with pytest.raises(ParseError) as caught:
        epub.parse(office_files.zipped({"META-INF/container.xml": container}))
    assert caught.value.reason == "BROKEN_DOCUMENT"
