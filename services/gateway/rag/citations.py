"""Citations: marks in an answer, and the words of documents that they stand for."""

import re
from dataclasses import dataclass, field

from services.gateway.llm import types
from services.gateway.llm.types import Json
from services.gateway.rag.ingest.segmentation import Span, sentences
from services.gateway.rag.retrieval import Passage
from services.gateway.rag.types import Citation, Draft

_MARK = re.compile(r"\[(\d{1,4})\]")
_UNFINISHED = re.compile(r"\[\d{0,4}\Z")
_LEADING_MARKS = re.compile(r"(?:\[\d{1,4}\][ ,;]*)+[.!?]?\s*")


@dataclass
class Reply:
    """What the server reports about an answer besides its text."""

    model: str
    usage: dict[str, int] = field(default_factory=dict)
    finished: str = ""

    def take(self, message: Json) -> None:
        """Record what a completion or a chunk of a stream reports."""
        self.model = message.get("model") or self.model
        self.usage = types.token_usage(message) or self.usage
        self.finished = types.finish_reason(message) or self.finished


class Marks:
    """Drops marks of passages that were not given, from words that come in pieces."""

    def __init__(self, given: int) -> None:
        self._given = given
        self._held = ""
        self.dropped = 0

    def check(self, piece: str) -> str:
        """Return what can be said by now; what may become a mark is held back."""
        text = self._held + piece
        held = _UNFINISHED.search(text)
        end = held.start() if held else len(text)
        self._held = text[end:]
        return _MARK.sub(self._keep, text[:end])

    def rest(self) -> str:
        """Return what was held back at the end."""
        text, self._held = self._held, ""
        return text

    def _keep(self, mark: re.Match[str]) -> str:
        if 1 <= int(mark[1]) <= self._given:
            return mark[0]
        self.dropped += 1
        return ""


def cited(text: str, passages: list[Passage], reply: Reply, dropped: int) -> Draft:
    """Cite a sentence for each of its marks; one without is told apart."""
    citations, unsupported = [], []
    for span in _statements(text):
        found = list(_MARK.finditer(text, span.start, span.end))
        for mark in found:
            passage = passages[int(mark[1]) - 1]
            whole = Span(0, len(passage.text))
            citations.append(cite(passage, whole, span.start, span.end))
        if not found:
            unsupported.append(span)
    complete = bool(text.strip()) and reply.finished in ("stop", "")
    return Draft(
        text, citations, passages, reply.model, reply.usage, unsupported, dropped, complete
    )


def _statements(text: str) -> list[Span]:
    """Return the sentences of an answer; marks after a full stop belong to what is before it."""
    spans: list[Span] = []
    for span in sentences(text):
        start = span.start
        after = _LEADING_MARKS.match(text, span.start, span.end)
        if after and spans:
            spans[-1] = Span(spans[-1].start, start + len(after[0].rstrip()))
            start = after.end()
        if start < span.end:
            spans.append(Span(start, span.end))
    return spans


def cite(passage: Passage, span: Span, start: int, end: int) -> Citation:
    """Return the citation of a span of a passage by the answer's text from start to end."""
    return Citation(
        start=start,
        end=end,
        document=passage.document,
        version=passage.version,
        chunk=passage.chunk,
        source_start=passage.start + span.start,
        source_end=passage.start + span.end,
        quote=span.of(passage.text),
    )
