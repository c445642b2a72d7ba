"""Holds the text of an answer back until its sentences are whole."""

import re
from collections.abc import Iterator

from services.gateway.rag.citations import split_sentences
from services.gateway.rag.ingest.segmentation import Span

# A sentence this long is passed on in parts, so that the work on each piece is bounded.
MAX_HELD = 4096
_END = re.compile(r"[.!?…。！？｡]|\n\s*\n")


class SentenceGate:
    """Returns whole sentences of a text that arrives in pieces.

    Each has the white space and the numbers of lists in front of it. Together they are the text.
    """

    def __init__(self) -> None:
        self._held = ""
        self._may_end = False

    def feed(self, piece: str) -> list[str]:
        """Add a piece; return the sentences that are whole now.

        A sentence is whole when the next one begins, since marks may follow its full stop.
        """
        self._held += piece
        self._may_end = self._may_end or bool(_END.search(piece))
        if not self._may_end and len(self._held) < MAX_HELD:
            return []
        *whole, last = list(_sentences(self._held)) or [""]
        self._held, self._may_end = last, bool(_END.search(last))
        if len(last) >= MAX_HELD:
            whole, self._held = [*whole, last], ""
        return whole

    def flush(self) -> list[str]:
        """Return the rest of the text, as sentences."""
        text, self._held = self._held, ""
        return list(_sentences(text))


def _sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text. Together they are the text."""
    start = 0
    spans = [span for span in split_sentences(text) if any(map(str.isalpha, span.of(text)))]
    for span in spans[:-1]:
        yield Span(start, span.end).of(text)
        start = span.end
    if start < len(text):
        yield text[start:]
