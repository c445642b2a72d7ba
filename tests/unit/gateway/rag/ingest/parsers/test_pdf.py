from io import BytesIO

import pytest
from PIL import Image

from services.gateway.rag.ingest.parsers import pdf
from services.gateway.rag.ingest.parsers.extract import ParseError
from tests.hostile_documents import pdf_of_many_pages
from tests.pdf import pdf as write_pdf


def test_blocks_have_page_numbers() -> None:
    extract = pdf.parse(write_pdf([["One (1) line.", "Two."], [], ["Three."]], title="Doors"))
    assert extract.title == "Doors"
    assert [(one.page, extract.text[one.start : one.end]) for one in extract.blocks] == [
        (1, "One (1) line.\nTwo."),
        (3, "Three."),
    ]
    assert extract.warnings == ["1 of 3 pages have no text. memetwin does not read scanned pages."]


def test_a_pdf_of_too_many_pages_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        pdf.parse(pdf_of_many_pages(pdf.MAX_PAGES + 1))
    assert caught.value.reason == "DOCUMENT_TOO_COMPLEX"


def test_a_pdf_of_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_TEXT_BYTES", 5)
    with pytest.raises(ParseError) as caught:
        pdf.parse(write_pdf([["One."], ["Two."]]))
    assert caught.value.reason == "TOO_LARGE"


def test_a_broken_pdf_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        pdf.parse(b"%PDF-1.7 nothing else")
    assert caught.value.reason == "BROKEN_PDF"


def test_a_scan_is_named() -> None:
    target = BytesIO()
    Image.new("L", (100, 100), 128).save(target, "PDF")
    with pytest.raises(ParseError) as caught:
        pdf.parse(target.getvalue())
    assert caught.value.reason == "SCANNED_PDF"
