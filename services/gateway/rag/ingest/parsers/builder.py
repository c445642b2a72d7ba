"""Builds an extract block by block, for files whose text is not the file itself."""

from services.gateway.rag.ingest.parsers.extract import (
    MAX_TEXT_BYTES,
    Block,
    Extract,
    Headings,
    ParseError,
    add,
)


class ExtractBuilder:
    """Collects the text and the blocks of a document in order.

    Attributes:
        headings: the headings above the next block.
        page: the page of the next blocks, from 1; 0 if the file has no pages.
    """

    def __init__(self) -> None:
        self.headings = Headings()
        self.page = 0
        self.blocks: list[Block] = []
        self.warnings: list[str] = []
        self._parts: list[str] = []
        self._length = 0

    def add(self, text: str, *, by_lines: bool = False, gap: str = "\n\n") -> None:
        """Append a block, unless it is blank. ``gap`` is the white space before it."""
        text = text.strip() if not by_lines else text.strip("\n").rstrip()
        if not text.strip():
            return
        if self._parts:
            self._append(gap)
        start = self._length
        self._append(text)
        add(self.blocks, Block(start, self._length, by_lines, str(self.headings), self.page))

    def add_heading(self, level: int, text: str) -> None:
        """Append a heading, which is above the blocks after it."""
        if text.strip():
            self.headings.enter(level, text)
            self.add(" ".join(text.split()))

    def add_rows(self, rows: list[str]) -> None:
        """Append the rows of a table as one block, in which each is a line."""
        self.add("\n".join(rows), by_lines=True)

    def add_extract(self, extract: Extract) -> None:
        """Append the text and the blocks of an extract."""
        if not extract.blocks:
            return
        if self._parts:
            self._append("\n\n")
        first = self._length
        self._append(extract.text)
        for one in extract.blocks:
            place = first + one.start, first + one.end
            add(self.blocks, Block(*place, one.by_lines, one.section, one.page))

    def build(self, title: str = "") -> Extract:
        """Return the extract."""
        title = " ".join(title.split())
        return Extract("".join(self._parts), self.blocks, title, warnings=self.warnings)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
        if self._length > MAX_TEXT_BYTES:
            raise ParseError("TOO_LARGE", "The document has over 32 MiB of text. Split it.")
