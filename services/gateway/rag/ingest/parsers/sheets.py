"""Parses Excel workbooks (.xlsx): a sheet is a section, a row is a line that names its values."""

import datetime
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import openpyxl

from services.gateway.rag.ingest.parsers import office, records
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import Extract

_MIDNIGHT = datetime.time()


def parse(content: bytes, _: str = "") -> Extract:
    """Parse a workbook. A formula becomes the value that Excel stored with it.

    Raises:
        ParseError: the workbook is broken or too large.
    """
    with office.readable("Excel workbook"):
        office.open_zip(content).close()
        book = openpyxl.load_workbook(
            BytesIO(content), read_only=True, data_only=True, keep_links=False
        )
        built = ExtractBuilder()
        for sheet in book.worksheets:
            if sheet.sheet_state != "visible":
                built.warnings.append(f"The hidden sheet {sheet.title!r} was left out.")
                continue
            sheet.reset_dimensions()  # files may declare wrong ones
            built.headings.enter(1, sheet.title)
            records.add_table(built, _rows(sheet))
        return built.build(book.properties.title or "")


def _rows(sheet: Any) -> Iterator[list[str]]:
    for row in sheet.iter_rows():
        yield [_text(cell) for cell in row]


def _text(cell: Any) -> str:
    """Return the value of a cell as Excel shows it, but for currencies and colours."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime) and value.time() == _MIDNIGHT:
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()
    if isinstance(value, int | float):
        return f"{value * 100:.10g}%" if "%" in cell.number_format else f"{value:.15g}"
    return str(value)
