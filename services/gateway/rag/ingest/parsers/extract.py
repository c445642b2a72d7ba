"""What a parser returns: the text of a file and the places of its blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parsers' processes do not load it
    from services.gateway.backends.types import Value

SECTION_SEPARATOR = " › "
MAX_BLOCKS = 250_000
MAX_TEXT_BYTES = 32 * 2**20
MAX_HEADING_CHARACTERS = 500
_BLANK_LINES = re.compile(r"\n\s*\n")
_VISIBLE = re.compile(r"\S")


class ParseError(Exception):
    """A document that cannot be parsed; ``reason`` is for programs, ``message`` for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list, table and so on: code points ``start`` to ``end`` of a text, exclusive.

    Attributes:
        by_lines: whether to split the block at line ends (code, tables) or after sentences.
        section: the headings above the block, outermost first, joined by ``SECTION_SEPARATOR``.
        page: the block's page, from 1; 0 if the file has no pages.
    """

    start: int
    end: int
    by_lines: bool = False
    section: str = ""
    page: int = 0


@dataclass(frozen=True)
class Extract:
    """The text of a file, its blocks in order, and the metadata that the file contains."""

    text: str
    blocks: list[Block]
    title: str = ""
    fields: "dict[str, Value]" = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Headings:
    """The headings above the current position of a parser."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []
        self._path = ""

    def enter(self, level: int, heading: str) -> None:
        """Open a heading. This closes the open headings of the same and of deeper levels."""
        self._open = [one for one in self._open if one[0] < level]
        self._open.append((level, " ".join(heading.split())[:MAX_HEADING_CHARACTERS]))
        self._path = SECTION_SEPARATOR.join(text for _, text in self._open if text)

    def __str__(self) -> str:
        return self._path


def add(blocks: list[Block], block: Block) -> None:
    """Append a block. Raises ParseError if the document has too many."""
    if len(blocks) >= MAX_BLOCKS:
        raise ParseError(
            "DOCUMENT_TOO_COMPLEX",
            f"The document has more than {MAX_BLOCKS:,} paragraphs and headings. Split it.",
        )
    blocks.append(block)


def paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the range of each paragraph within a range, without outer white space."""
    for match in _BLANK_LINES.finditer(text, start, end):
        yield from trim(text, start, match.start())
        start = match.end()
    yield from trim(text, start, end)


def trim(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a range without outer white space. Yield nothing if the range is blank."""
    if first := _VISIBLE.search(text, start, end):
        while text[end - 1].isspace():
            end -= 1
        yield first.start(), end
