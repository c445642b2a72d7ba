"""Turns marks like ``[1]`` in an answer into citations of the passages that they name."""

import re
from collections.abc import Sequence

from services.gateway.rag.ingest.segmentation import Span, sentences
from services.gateway.rag.types import Citation, Passage

_MARK = re.compile(r"\[(\d{1,4})\]")
_UNFINISHED_MARK = re.compile(r"\[\d{0,4}\Z")
_LEADING_MARKS = re.compile(r"(?:\[\d{1,4}\][ ,;]*)+[.!?。！？]?\s*")


class MarkFilter:
    """Removes marks that name no passage from a text that arrives in pieces.

    Args:
        passages: number of passages; they are numbered from 1.
    """

    def __init__(self, passages: int) -> None:
        self._passages = passages
        self._unfinished = ""
        self.dropped = 0

    def feed(self, piece: str) -> str:
        """Add a piece; return the filtered text up to an unfinished mark."""
        text = self._unfinished + piece
        unfinished = _UNFINISHED_MARK.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._unfinished = text[end:]
        return _MARK.sub(self._filter, text[:end])

    def flush(self) -> str:
        """Return the rest of the text."""
        text, self._unfinished = self._unfinished, ""
        return text

    def _filter(self, mark: re.Match[str]) -> str:
        if 1 <= int(mark[1]) <= self._passages:
            return mark[0]
        self.dropped += 1
        return ""


def cite_marks(text: str, passages: Sequence[Passage]) -> tuple[list[Citation], list[Span]]:
    """Return a citation for each mark in an answer, and the sentences without a mark.

    A citation links the mark's sentence to the whole passage. All marks must name passages.
    """
    citations, unsupported = [], []
    for sentence in _statements(text):
        marks = list(_MARK.finditer(text, sentence.start, sentence.end))
        for mark in marks:
            passage = passages[int(mark[1]) - 1]
            citations.append(cite(passage, Span(0, len(passage.text)), sentence))
        if not marks:
            unsupported.append(sentence)
    return citations, unsupported


def cite(passage: Passage, quoted: Span, statement: Span) -> Citation:
    """Return a citation that links a part of an answer to a part of a passage."""
    return Citation(
        start=statement.start,
        end=statement.end,
        document=passage.document,
        version=passage.version,
        chunk=passage.chunk,
        source_start=passage.start + quoted.start,
        source_end=passage.start + quoted.end,
        quote=quoted.of(passage.text),
    )


def _statements(text: str) -> list[Span]:
    """Return the sentences of an answer.

    Marks after a full stop belong to the sentence before them.
    """
    spans: list[Span] = []
    for span in sentences(text):
        start = span.start
        marks = _LEADING_MARKS.match(text, span.start, span.end)
        if marks and spans:
            spans[-1] = Span(spans[-1].start, start + len(marks[0].rstrip()))
            start = marks.end()
        if start < span.end:
            spans.append(Span(start, span.end))
    return spans
