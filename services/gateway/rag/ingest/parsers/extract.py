"""What a parser returns: the text of a file and the places of its blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.errors import InvalidArgument
from services.gateway.backends.types import Value

SECTION_SEPARATOR = " › "
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
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
    fields: dict[str, Value] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Headings:
    """The headings above the current position of a parser."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        """Open a heading. This closes the open headings of the same and of deeper levels."""
        self._open = [one for one in self._open if one[0] < level]
        self._open.append((level, " ".join(heading.split())))

    def __str__(self) -> str:
        return SECTION_SEPARATOR.join(heading for _, heading in self._open if heading)


def decode(content: bytes) -> str:
    """Decode UTF-8 and turn CRLF into LF. Raises InvalidArgument for other encodings."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            "NOT_UTF8",
            "The text is not valid UTF-8. Convert it to UTF-8 and send it again.",
            field="content",
        ) from error
    return text.replace("\r\n", "\n")


def paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the range of each paragraph within a range, without outer white space."""
    for match in _BLANK_LINES.finditer(text, start, end):
        yield from trim(text, start, match.start())
        start = match.end()
    yield from trim(text, start, end)


def trim(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a range without outer white space. Yield nothing if the range is blank."""
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
