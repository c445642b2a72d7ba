"""Turns marks like ``[1]`` in an answer into citations of the passages that they name."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.rag.ingest.segmentation import Span, sentences
from services.gateway.rag.marks import find_marks
from services.gateway.rag.types import Citation, Passage

_LEADING_MARKS = re.compile(r"(?:\[\d{1,4}\][ ,;]*)+[.!?。！？]?\s*")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer, and the numbers of the passages that it cites, from 1."""

    span: Span
    numbers: tuple[int, ...]


def cite_statements(every: Sequence[Statement], passages: Sequence[Passage]) -> list[Citation]:
    """Return a citation for each mark. It links the mark's sentence to the whole passage."""
    return [
        cite(passage, Span(0, len(passage.text)), one.span)
        for one in every
        for passage in (passages[number - 1] for number in one.numbers)
    ]


def statements(text: str, passages: int) -> list[Statement]:
    """Return the sentences of an answer, except those without a letter, such as "1." in a list.

    Args:
        text: the answer, as ``MarkFilter`` returns it.
        passages: number of passages.
    """
    marks = deque(find_marks(text, passages))
    found = []
    for span in split_sentences(text):
        numbers = []
        while marks and marks[0].span.start < span.end:
            numbers.append(marks.popleft().number)
        if numbers or any(map(str.isalpha, span.of(text))):
            found.append(Statement(span, tuple(numbers)))
    return found


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


def split_sentences(text: str) -> list[Span]:
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
