"""Divides passages into what an answer can quote: sentences, list items, table rows and code.

A unit is shown without the signs of Markdown. Headings and images are no units. Headings and the
line before a list, a table or code are the context of what follows: embedded, but not shown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.gateway.rag.ingest.parsers.extract import SECTION_SEPARATOR
from services.gateway.rag.ingest.segmentation import Span, sentences
from services.gateway.rag.markup import (
    cells,
    dedented,
    heading_key,
    is_code,
    is_delimiter_row,
    is_header,
    is_image,
    without_markup,
)

MAX_CODE_CHARACTERS = 800
# A sentence of a text without full stops can be long. It is divided at the ends of its lines.
MAX_SENTENCE_CHARACTERS = 400
MIN_SENTENCE_CHARACTERS = 6
MAX_CONTEXT_CHARACTERS = 200
# Shorter lines without a full stop may be headings or entries of a list.
MAX_TITLE_CHARACTERS = 60
_FENCE = re.compile(r"\s{0,3}(?:>\s?)*(`{3,}|~{3,})")
_HEADING = re.compile(r"\s{0,3}#{1,6}(?=\s|$)")
_UNDERLINE = re.compile(r"\s{0,3}(?:=+|-+)\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•◦▪–]|\d{1,3}[.)])\s+(?=\S)")
_LABELLED = re.compile(r"\s*[^\W\d_][^:=\n]{0,40}(?::|\s=)\s+\S")
_RULE = re.compile(r"\s{0,3}(?:[-*_]\s*){3,}$")
_STOP = tuple(".!?…。！？।:：;,")


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a passage that an answer can quote as a whole.

    Attributes:
        span: its place in the passage's text.
        text: its text as an answer shows it.
        context: the headings and the line that introduce it.
        header: the header of its table; empty for everything else.
        is_code: whether it is code, which keeps its lines.
        is_title: whether it looks like a heading that has no sign, or only introduces something.
    """

    span: Span
    text: str
    context: str = ""
    header: str = ""
    is_code: bool = False
    is_title: bool = False

    @property
    def whole_text(self) -> str:
        """The text with the header."""
        return f"{self.header}\n{self.text}" if self.header else self.text

    def embedded_text(self, title: str) -> str:
        """Return the text to embed and to look for words in; ``title`` is the document's."""
        return ": ".join(filter(None, dict.fromkeys((title, self.context, self.whole_text))))


def units(text: str, title: str, section: str) -> list[Unit]:
    """Return the units of a passage in order.

    Args:
        text: the text of the passage.
        title: the title of its document.
        section: the headings above the passage, joined by ``SECTION_SEPARATOR``.
    """
    reader = _Reader(text, title, section)
    return [one for one in reader.read() if any(map(str.isalnum, one.text))]


class _Reader:
    """Reads the lines of a passage one after another."""

    def __init__(self, text: str, title: str, section: str) -> None:
        self._text = text
        self._lines = list(_lines(text))
        parts = section.split(SECTION_SEPARATOR) if section else []
        self._headings = {heading_key(one) for one in [*parts, title] if one}
        self._heading = parts[-1] if parts and parts[-1] != title else ""
        self._lead = ""  # the last line that introduces what follows it
        self._at = 0

    def read(self) -> Iterator[Unit]:
        while self._at < len(self._lines):
            line = self._line(self._at)
            if not line.strip() or is_image(line) or _RULE.match(line):
                self._at += 1
            elif _FENCE.match(line):
                yield from self._fenced()
            elif self._is_heading():
                continue
            elif self._is_row(self._at):
                yield from self._table()
            elif _ITEM.match(line):
                yield from self._item()
            else:
                yield from self._paragraph()

    def _line(self, at: int) -> str:
        return self._lines[at].of(self._text) if at < len(self._lines) else ""

    def _unit(self, span: Span, text: str, **more: object) -> Unit:
        context = ": ".join(filter(None, (self._heading, self._lead)))[:MAX_CONTEXT_CHARACTERS]
        return replace(Unit(span, text, context), **more)  # type: ignore[arg-type]

    def _is_heading(self) -> bool:
        """Return whether the current line is a heading, and go past it."""
        line = self._line(self._at)
        match = _HEADING.match(line)
        text = without_markup(line[match.end() :].rstrip(" #") if match else line)
        is_underlined = self._is_underlined(self._at) and not _ITEM.match(line)
        if not (match or is_underlined or heading_key(text) in self._headings):
            return False
        self._heading, self._lead = text, ""
        self._at += 1 + is_underlined
        return True

    def _is_underlined(self, at: int) -> bool:
        """Return whether the next line makes a line a heading. A sentence before a rule is none."""
        line, following = self._line(at), self._line(at + 1)
        is_sentence = line.rstrip().endswith((".", "!", "?", "…", "。")) and "=" not in following
        return bool(
            following.strip() and _UNDERLINE.match(following)
            and "|" not in line and not is_sentence
        )  # fmt: skip

    def _fenced(self) -> Iterator[Unit]:
        """Yield the code between two fences, in parts if it is long."""
        fence = _FENCE.match(self._line(self._at))
        sign = fence[1] if fence else "```"
        first = self._at = self._at + 1
        while self._at < len(self._lines) and not self._line(self._at).strip(" >").startswith(sign):
            self._at += 1
        yield from self._code(first, self._at)
        self._at += 1

    def _code(self, first: int, last: int) -> Iterator[Unit]:
        start = first
        for at in range(first, last + 1):
            if at < last and self._line(at).strip() and self._size(start, at) < MAX_CODE_CHARACTERS:
                continue
            if at < last and self._size(start, at) < MAX_CODE_CHARACTERS // 2:
                continue  # a blank line within short code
            lines = [self._line(one).rstrip() for one in range(start, at)]
            if any(lines):
                span = Span(self._lines[start].start, self._lines[at - 1].end)
                yield self._unit(span, dedented(lines), is_code=True)
            start = at

    def _size(self, first: int, last: int) -> int:
        return self._lines[last - 1].end - self._lines[first].start if last > first else 0

    def _is_row(self, at: int) -> bool:
        """Return whether a line is a row of a table, or its header."""
        line = self._line(at)
        return (
            " | " in line
            or line.lstrip().startswith("|")
            or ("|" in line and is_delimiter_row(self._line(at + 1)))
        )

    def _table(self) -> Iterator[Unit]:
        """Yield the rows of a table, each with the header if the passage has it."""
        first = self._at
        while self._at < len(self._lines) and "|" in self._line(self._at):
            self._at += 1
        rows = [(self._lines[at], cells(self._line(at))) for at in range(first, self._at)]
        header = ""
        if len(rows) > 1 and is_delimiter_row(self._line(first + 1)):
            header, rows = " | ".join(rows[0][1]), rows[2:]
        elif len(rows) > 1 and is_header([row for _, row in rows]):
            header, rows = " | ".join(rows[0][1]), rows[1:]
        for span, row in rows:
            if not all(re.fullmatch(r":?-*:?", cell) for cell in row):
                yield self._unit(span, " | ".join(row), header=header)

    def _item(self) -> Iterator[Unit]:
        """Yield a list item with the lines that continue it."""
        first = self._at
        match = _ITEM.match(self._line(first))
        begin = self._lines[first].start + (match.end() if match else 0)
        self._at += 1
        while self._at < len(self._lines) and self._continues(self._at):
            self._at += 1
        span = Span(begin, self._lines[self._at - 1].end)
        if span.end - span.start <= MAX_SENTENCE_CHARACTERS:
            yield self._unit(span, without_markup(span.of(self._text)))
        else:
            yield from self._sentences(span)

    def _continues(self, at: int) -> bool:
        """Return whether a line continues the paragraph before it."""
        line = self._line(at)
        return bool(
            line.strip() and not _ITEM.match(line) and not _FENCE.match(line)
            and not _HEADING.match(line) and not _RULE.match(line) and not self._is_row(at)
        )  # fmt: skip

    def _paragraph(self) -> Iterator[Unit]:
        first = self._at
        self._at += 1
        while self._at < len(self._lines) and self._continues(self._at):
            if self._is_underlined(self._at):
                break
            self._at += 1
        lines = [self._line(at) for at in range(first, self._at)]
        span = Span(self._lines[first].start, self._lines[self._at - 1].end)
        is_title = False
        if is_code(lines):
            yield from self._code(first, self._at)
        elif _is_list(lines):
            for at in range(first, self._at):
                text = without_markup(self._line(at))
                if _introduces(text):
                    self._lead = text
                else:
                    yield self._unit(self._lines[at], text)
            return
        else:
            is_title = len(lines) == 1 and self._is_title(lines[0])
            for unit in self._sentences(span):
                introduces = _introduces(unit.text) and self._has_more()
                yield replace(unit, is_title=is_title or introduces)
        self._lead = without_markup(lines[-1]) if _introduces(lines[-1]) or is_title else ""

    def _is_title(self, line: str) -> bool:
        """Return whether a line looks like the title of what follows it in the passage."""
        return (
            len(line.strip()) <= MAX_TITLE_CHARACTERS and not line.rstrip().endswith(_STOP)
            and not _LABELLED.match(line) and not any(map(str.isdigit, line))
            and not line.lstrip()[:1].islower() and not _introduces(self._lead) and self._has_more()
        )  # fmt: skip

    def _has_more(self) -> bool:
        return any(self._line(at).strip() for at in range(self._at, len(self._lines)))

    def _sentences(self, span: Span) -> Iterator[Unit]:
        for sentence in _joined(self._text, sentences(self._text, span)):
            parts = [sentence]
            if sentence.end - sentence.start > MAX_SENTENCE_CHARACTERS:
                parts = list(_lines(self._text, sentence)) or parts
            for part in parts:
                text = part.of(self._text)
                shown = without_markup("\n".join(line.lstrip("> ") for line in text.split("\n")))
                # Text without Markdown is shown exactly as it is.
                yield self._unit(part, text if shown == " ".join(text.split()) else shown)


def _lines(text: str, part: Span | None = None) -> Iterator[Span]:
    """Yield the lines of a text or of a part of it, without their ends."""
    start, end = (part.start, part.end) if part else (0, len(text))
    while start <= end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        yield Span(start, stop - (stop > start and text[stop - 1] == "\r"))
        start = stop + 1


def _joined(text: str, every: list[Span]) -> list[Span]:
    """Join a very short sentence, such as "No.", to the one after it."""
    joined: list[Span] = []
    for one in every:
        last = joined[-1].of(text) if joined else ""
        if last and len(last) < MIN_SENTENCE_CHARACTERS and len(last.split()) == 1:
            joined[-1] = Span(joined[-1].start, one.end)
        else:
            joined.append(one)
    return joined


def _is_list(lines: list[str]) -> bool:
    """Return whether the lines of a paragraph are entries, such as ingredients or settings."""
    if len(lines) == 1:
        return False
    if sum(map(bool, map(_LABELLED.match, lines))) * 2 > len(lines):
        return True
    short = [len(line.strip()) <= MAX_TITLE_CHARACTERS for line in lines]
    ends = [line.rstrip().endswith(_STOP) for line in lines[1:]]
    # The lines of a sentence that was wrapped begin with small letters.
    continued = [line.lstrip()[:1].islower() for line in lines[1:]]
    return all(short) and max(sum(ends), sum(continued)) * 2 <= len(ends)


def _introduces(line: str) -> bool:
    """Return whether a line says what follows it: a question, or words before a colon."""
    return line.rstrip().endswith((":", "：", "?", "？", "؟"))
