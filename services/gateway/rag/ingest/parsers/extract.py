"""What a file says: its text, and where in it the pieces of its structure lie."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.errors import InvalidArgument
from services.gateway.backends.types import Value

SECTION_SEPARATOR = " › "
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Block:
    """A paragraph, list, table, … : code points ``start`` to ``end`` of a text, exclusive.

    Attributes:
        by_lines: it is cut at lines (code, tables), not at sentences.
        section: the headings above it, outermost first.
        page: where it lies, from 1; 0 without pages.
    """

    start: int
    end: int
    by_lines: bool = False
    section: str = ""
    page: int = 0


@dataclass(frozen=True)
class Extract:
    """The text of a file, its structure, and what it says of itself."""

    text: str
    blocks: list[Block]
    title: str = ""
    fields: dict[str, Value] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Headings:
    """The headings above a place, as one reads on."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        """Go on below a heading; those of its level and deeper end."""
        self._open = [one for one in self._open if one[0] < level]
        self._open.append((level, " ".join(heading.split())))

    def __str__(self) -> str:
        return SECTION_SEPARATOR.join(heading for _, heading in self._open if heading)


def decoded(content: bytes) -> str:
    """Return UTF-8 text with plain line ends. Raises InvalidArgument."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument("NOT_UTF8", "The text is not UTF-8.", field="content") from error
    return text.replace("\r\n", "\n")


def paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the paragraphs between two places lie, without white space around them."""
    for match in _BLANK_LINES.finditer(text, start, end):
        yield from trimmed(text, start, match.start())
        start = match.end()
    yield from trimmed(text, start, end)


def trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a place without white space around it, or nothing if there is nothing else."""
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
