"""Parses CSV and tab-separated values. Each row becomes a line that names its values."""

import csv
import io
from collections.abc import Callable

from services.gateway.rag.ingest.parsers import charsets, plain, records
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import MAX_TEXT_BYTES, Extract

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 2**14
# Excel writes the delimiter into the first line.
_DECLARATION = "sep="


def parse(content: bytes, charset: str = "") -> Extract:
    """Parse CSV, whose delimiter may also be a semicolon, a tab or a bar. Raises ParseError."""
    return _parse(content, charset, _delimiter)


def parse_tabs(content: bytes, charset: str = "") -> Extract:
    """Parse tab-separated values. Raises ParseError."""
    return _parse(content, charset, lambda _: "\t")


def _parse(content: bytes, charset: str, choose: Callable[[str], str]) -> Extract:
    text, warnings = charsets.decode(content, charset)
    first, _, rest = text.partition("\n")
    if first.lower().startswith(_DECLARATION) and len(first.strip()) == len(_DECLARATION) + 1:
        delimiter, rows = first.strip()[-1], rest
    else:
        delimiter, rows = choose(text[:_SAMPLE_CHARACTERS]), text
    rows = rows.replace("\0", "\ufffd")  # a row of Python's reader ends at a zero
    built = ExtractBuilder()
    built.warnings += warnings
    csv.field_size_limit(MAX_TEXT_BYTES)
    try:
        records.add_table(built, csv.reader(io.StringIO(rows, newline=""), delimiter=delimiter))
    except csv.Error:
        return plain.parse_text(text, [*warnings, "The table is broken and was read as text."])
    return built.build()


def _delimiter(sample: str) -> str:
    """Return the delimiter that divides most lines of a sample into equally many cells."""

    def score(delimiter: str) -> tuple[int, int]:
        lines = sample.splitlines()[:-1] or [sample]
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        usual = max(widths, key=widths.count, default=0)
        return (widths.count(usual) if usual > 1 else 0, usual)

    return max(_DELIMITERS, key=score)
