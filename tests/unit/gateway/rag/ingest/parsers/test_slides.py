from io import BytesIO

import pptx
import pytest
from pptx.util import Emu

from services.gateway.rag.ingest.parsers import slides
from services.gateway.rag.ingest.parsers.extract import ParseError
from tests import office_files


def test_a_slide_is_a_page_with_a_section() -> None:
    extract = slides.parse(
        office_files.slides([("Setup", ["Run it.", "Twice."]), ("Fees", ["None."])])
    )
    assert [
        (one.page, one.section, extract.text[one.start : one.end]) for one in extract.blocks
    ] == [
        (1, "Setup", "Setup"),
        (1, "Setup", "Run it.\nTwice."),
        (2, "Fees", "Fees"),
        (2, "Fees", "None."),
    ]
    assert extract.title == "Setup"


def test_tables_groups_and_notes_are_text_and_hidden_slides_are_not() -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = slide.shapes.add_table(1, 2, Emu(0), Emu(0), Emu(9), Emu(9)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "Pro", "30 EUR"
    inner = slide.shapes.add_group_shape().shapes.add_group_shape()
    inner.shapes.add_textbox(Emu(0), Emu(0), Emu(9), Emu(9)).text_frame.text = "In a group."
    slide.notes_slide.notes_text_frame.text = "A note."
    hidden = presentation.slides.add_slide(presentation.slide_layouts[5])
    hidden.shapes.title.text = "Secret"
    hidden._element.set("show", "0")
    target = BytesIO()
    presentation.save(target)
    extract = slides.parse(target.getvalue())
    assert extract.text.split("\n\n") == ["Pro | 30 EUR", "In a group.", "A note."]
    assert extract.warnings == ["1 hidden slides were left out."]


def test_a_broken_presentation_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        slides.parse(office_files.zipped({"ppt/presentation.xml": "<a/>"}))
    assert caught.value.reason == "BROKEN_DOCUMENT"
