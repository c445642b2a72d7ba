from io import BytesIO

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from services.gateway.rag.ingest.parsers import word
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError
from tests import office_files


def blocks(extract: Extract) -> list[tuple[str, str]]:
    return [(one.section, extract.text[one.start : one.end]) for one in extract.blocks]


def with_body(xml: str) -> bytes:
    """Return a document with an element of WordprocessingML before its end."""
    document = docx.Document()
    for element in parse_xml(f"<w:body {nsdecls('w')}>{xml}</w:body>"):
        document.element.body.insert(len(document.element.body) - 1, element)
    target = BytesIO()
    document.save(target)
    return target.getvalue()


def test_headings_are_sections_and_rows_are_lines() -> None:
    content = office_files.word(
        [
            ("Title", "Guide"),
            ("Heading 1", "Setup"),
            ("", "Run the installer."),
            ("Heading 2", "Fees"),
            ("List Bullet", "one"),
        ],
        [["Plan", "Price"], ["Pro", "30 EUR"]],
    )
    extract = word.parse(content)
    assert extract.title == "Guide"
    assert blocks(extract) == [
        ("Guide", "Guide"),
        ("Guide › Setup", "Setup"),
        ("Guide › Setup", "Run the installer."),
        ("Guide › Setup › Fees", "Fees"),
        ("Guide › Setup › Fees", "one"),
        ("Guide › Setup › Fees", "Plan | Price\nPro | 30 EUR"),
    ]


GATE = "<w:r><w:t>The gate opens</w:t></w:r>"


@pytest.mark.parametrize(
    "xml",
    [
        f"<w:p><w:hyperlink>{GATE}</w:hyperlink></w:p>",
        f"<w:sdt><w:sdtContent><w:p>{GATE}</w:p></w:sdtContent></w:sdt>",
        f"<w:p><w:ins>{GATE}</w:ins><w:del><w:r><w:delText>x</w:delText></w:r></w:del></w:p>",
        f"<w:p>{GATE}<w:r><w:rPr><w:vanish/></w:rPr><w:t>x</w:t></w:r></w:p>",
        "<w:p><w:r><w:t>The</w:t><w:tab/><w:t>gate</w:t><w:br/><w:t>opens</w:t></w:r></w:p>",
        f"<w:tbl><w:tr><w:tc><w:p>{GATE}</w:p></w:tc></w:tr></w:tbl>",
        f"<w:p><w:moveFrom><w:r><w:t>x</w:t></w:r></w:moveFrom>{GATE}</w:p>",
    ],
)
def test_the_text_is_what_word_shows(xml: str) -> None:
    assert word.parse(with_body(xml)).text.split() == ["The", "gate", "opens"]


def test_an_outline_level_makes_a_heading() -> None:
    xml = (
        '<w:p><w:pPr><w:outlineLvl w:val="0"/></w:pPr><w:r><w:t>Fees</w:t></w:r></w:p>'
        '<w:p><w:pPr><w:outlineLvl w:val="9"/></w:pPr><w:r><w:t>None.</w:t></w:r></w:p>'
    )
    extract = word.parse(with_body(xml))
    assert (extract.title, blocks(extract)) == ("Fees", [("Fees", "Fees"), ("Fees", "None.")])


def test_a_broken_document_is_refused() -> None:
    for content in (b"PK\x03\x04", office_files.zipped({"[Content_Types].xml": "<a/>"})):
        with pytest.raises(ParseError) as caught:
            word.parse(content)
        assert caught.value.reason == "BROKEN_DOCUMENT"
