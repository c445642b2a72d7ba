import datetime
from io import BytesIO
from typing import Any

import openpyxl
import pytest

from services.gateway.rag.ingest.parsers import sheets
from services.gateway.rag.ingest.parsers.extract import ParseError
from tests import office_files


def test_rows_name_their_values_in_the_section_of_their_sheet() -> None:
    book: dict[str, list[list[Any]]] = {
        "Prices": [
            ["Plan", "Price", "Since", "At", "Sold"],
            ["Basic", 10, datetime.date(2026, 1, 2), datetime.time(9, 30), True],
            ["Pro", 30.5, datetime.datetime(2026, 1, 2, 9, 30), None, "maybe"],
        ],
        "Empty": [],
        "Notes": [["The gate opens at nine."]],
    }
    extract = sheets.parse(office_files.workbook(book))
    assert [(one.section, extract.text[one.start : one.end]) for one in extract.blocks] == [
        (
            "Prices",
            "Plan: Basic | Price: 10 | Since: 2026-01-02 | At: 09:30:00 | Sold: TRUE\n"
            "Plan: Pro | Price: 30.5 | Since: 2026-01-02 09:30:00 | Sold: maybe",
        ),
        ("Notes", "The gate opens at nine."),
    ]


def test_percentages_are_shown_and_hidden_sheets_are_not() -> None:
    book = openpyxl.Workbook()
    book.active.append(["Share", 0.255])
    book.active["B1"].number_format = "0.0%"
    hidden = book.create_sheet("Secret")
    hidden.append(["x"])
    hidden.sheet_state = "hidden"
    target = BytesIO()
    book.save(target)
    extract = sheets.parse(target.getvalue())
    assert extract.text == "Share | 25.5%"
    assert extract.warnings == ["The hidden sheet 'Secret' was left out."]


def test_a_broken_workbook_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        sheets.parse(office_files.zipped({"xl/workbook.xml": "<a/>"}))
    assert caught.value.reason == "BROKEN_DOCUMENT"
