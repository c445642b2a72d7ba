"""Splits texts into sentences and lines."""

import re
from dataclasses import dataclass

_PARAGRAPH = re.compile(r"\n\s*\n")
# Sentences end without white space in Chinese and Japanese. The full stops and question marks of
# Devanagari, Arabic, Urdu, Armenian, Ethiopic, Burmese and Khmer need no capital after them.
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W\d_a-zà-ÿ]|[\"'“‘(\[]*\d)"
    r"|(?<=[。！？｡।॥؟۔։።፧။៕។])[\"'”’」』）)\]】》]*\s*(?![。！？｡।॥؟۔։።፧။៕។\"'”’」』）)\]】》])"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|cf|al|Fig|fig|No|approx|ca|c)|\b[A-Z])\.$"
)


_MAX_ABBREVIATION = len("approx.")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text: code points ``start`` to ``end``, exclusive."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return the part of ``text``."""
        return text[self.start : self.end]


def sentences(text: str, part: Span | None = None) -> list[Span]:
    """Return the sentences of a text or of a part of it, in order, without outer white space."""
    whole = part or Span(0, len(text))
    spans = []
    for paragraph in _split(text, whole, _PARAGRAPH):
        start = paragraph.start
        for match in _SENTENCE_END.finditer(text, paragraph.start, paragraph.end):
            end = match.start()
            if _ABBREVIATION.search(text, max(start, end - _MAX_ABBREVIATION), end):
                continue
            spans.append(Span(start, match.end()))
            start = match.end()
        spans.append(Span(start, paragraph.end))
    return [trimmed for span in spans if (trimmed := _trim(text, span)).start < trimmed.end]


def lines(text: str, part: Span) -> list[Span]:
    """Return the lines of a part of a text that are not blank, in order, with their indentation."""
    spans, start = [], part.start
    for line in part.of(text).splitlines(keepends=True):
        spans.append(Span(start, start + len(line.rstrip())))
        start += len(line)
    return [span for span in spans if span.start < span.end]


def _split(text: str, whole: Span, separator: re.Pattern[str]) -> list[Span]:
    spans, start = [], whole.start
    for match in separator.finditer(text, whole.start, whole.end):
        spans.append(Span(start, match.start()))
        start = match.end()
    spans.append(Span(start, whole.end))
    return spans


def _trim(text: str, span: Span) -> Span:
    piece = span.of(text)
    start = span.start + len(piece) - len(piece.lstrip())
    return Span(start, max(start, span.end - (len(piece) - len(piece.rstrip()))))
