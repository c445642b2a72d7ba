"""Writes rows and objects as lines that name each value, so that every chunk has the header."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from services.gateway.rag.ingest.parsers.builder import ExtractBuilder

# A longer record is no line of a table: each of its values becomes a paragraph.
MAX_LINE_CHARACTERS = 1_000
_BLOCK_CHARACTERS = 2**16
_SAMPLE_ROWS = 20
_MAX_LABEL_CHARACTERS = 100
_NUMBER = re.compile(r"[-+(]?\W{0,3}\d[\d.,:/%\s-]*\W{0,3}")

Record = Sequence[tuple[str, str]]


class RecordWriter:
    """Appends records to an extract: ``Plan: Pro | Price: 30 EUR``."""

    def __init__(self, built: ExtractBuilder) -> None:
        self._built = built
        self._lines: list[str] = []
        self._characters = 0

    def add(self, record: Record) -> None:
        """Append a record, given as labels and values. A label may be empty."""
        values = [f"{label}: {value}" if label else value for label, value in record if value]
        line = " ".join(" | ".join(values).split())
        if len(line) > MAX_LINE_CHARACTERS:
            self.flush()
            for value in values:
                self._built.add(value)
        elif line:
            self._lines.append(line)
            self._characters += len(line)
            if self._characters > _BLOCK_CHARACTERS:
                self.flush()

    def flush(self) -> None:
        """Append the lines so far as a block."""
        self._built.add("\n".join(self._lines), by_lines=True)
        self._lines, self._characters = [], 0


def add_table(built: ExtractBuilder, rows: Iterable[Sequence[str]]) -> None:
    """Append a table. If its first row is a header, each row names its values by it."""
    writer = RecordWriter(built)
    visible = (row for row in map(_trimmed, rows) if row)
    sample = list(islice(visible, _SAMPLE_ROWS))
    width = max(map(_count, sample), default=0)
    while sample and width > 1 and _count(sample[0]) == 1:
        built.add(" ".join(sample.pop(0)))  # a note above the table
    header = sample[0] if len(sample) > 1 and width > 1 and _is_header(sample[0]) else []
    for row in chain(sample[bool(header) :], visible):
        writer.add(list(_labelled(header, row)))
    writer.flush()


def _trimmed(row: Sequence[str]) -> list[str]:
    """Return the cells without outer white space, up to the last one that is not blank."""
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _count(row: Sequence[str]) -> int:
    return sum(map(bool, row))


def _is_header(row: Sequence[str]) -> bool:
    """Return whether the cells are labels: short, distinct and no numbers."""
    labels = list(filter(None, row))
    return len(set(labels)) == len(labels) and not any(
        len(one) > _MAX_LABEL_CHARACTERS or _NUMBER.fullmatch(one) for one in labels
    )


def _labelled(header: Sequence[str], row: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, value in enumerate(row):
        yield (header[number].rstrip(":") if number < len(header) else ""), value
