"""Cuts texts into sentences, and sentences into passages that an embedding model can read whole."""

import re
from dataclasses import dataclass

# all-MiniLM-L6-v2 reads 256 tokens; English has about 4.5 characters a token.
PASSAGE_CHARACTERS = 900

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W\d_a-zà-ÿ]|[\"'“‘(\[]*\d)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|cf|al|Fig|fig|No|approx|ca|c)|\b[A-Z])\.$"
)


@dataclass(frozen=True)
class Span:
    """A piece of a text: code points ``start`` to ``end``, exclusive."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return the piece."""
        return text[self.start : self.end]


def sentences(text: str, within: Span | None = None) -> list[Span]:
    """Return the sentences of a text in order, without the white space between them."""
    whole = within or Span(0, len(text))
    spans = []
    for paragraph in _split(text, whole, _PARAGRAPH):
        start = paragraph.start
        for match in _SENTENCE_END.finditer(text, paragraph.start, paragraph.end):
            if _ABBREVIATION.search(text[start : match.start()]):
                continue
            spans.append(Span(start, match.end()))
            start = match.end()
        spans.append(Span(start, paragraph.end))
    return [trimmed for span in spans if (trimmed := _trim(text, span)).start < trimmed.end]


def passages(text: str, limit: int = PASSAGE_CHARACTERS) -> list[Span]:
    """Return passages of whole sentences, at most ``limit`` code points each, that cover the text.

    A passage ends with its paragraph once it is half full; a sentence longer than the limit is cut
    at white space.
    """
    spans: list[Span] = []
    for paragraph in _split(text, Span(0, len(text)), _PARAGRAPH):
        begun = spans[-1] if spans and spans[-1].end - spans[-1].start < limit / 2 else None
        for sentence in sentences(text, paragraph):
            for piece in _cut(text, sentence, limit):
                if begun and piece.end - begun.start <= limit:
                    begun = spans[-1] = Span(begun.start, piece.end)
                else:
                    begun = piece
                    spans.append(piece)
    return spans


def _cut(text: str, span: Span, limit: int) -> list[Span]:
    pieces = []
    while span.end - span.start > limit:
        space = text.rfind(" ", span.start + limit // 2, span.start + limit)
        end = space if space > 0 else span.start + limit
        pieces.append(Span(span.start, end))
        span = _trim(text, Span(end, span.end))
    return [*pieces, span]


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
