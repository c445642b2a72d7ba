"""Writes answers without a language model: quotes the sentences nearest to the question."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice

from services.errors import FailedPrecondition
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.rag.citations import cite
from services.gateway.rag.ingest.segmentation import Span, sentences
from services.gateway.rag.types import Draft, Passage, WriteRequest

MAX_QUOTES = 3
MAX_SENTENCES = 48
# A sentence is quoted only if its cosine is at least this share of the best one's.
_MIN_RELATIVE_SCORE = 0.6
_NOT_WORDS = re.compile(r"\W+")


class ExtractiveWriter:
    """Quotes sentences verbatim after a fixed opening."""

    OPENING = "No language model is set; these sentences answer best:"

    def __init__(self, embedder: EmbedderClient) -> None:
        self._embedder = embedder

    def author(self, model: str) -> str:
        """Return the name of the extractive writer.

        Raises:
            FailedPrecondition: ``model`` names a language model.
        """
        if model:
            raise FailedPrecondition(
                "NO_LANGUAGE_MODEL",
                "No language model is configured. Leave model empty, or set MEMETWIN_LLM_BASE_URL.",
                field="model",
            )
        return "extractive"

    async def write(
        self, request: WriteRequest, passages: Sequence[Passage]
    ) -> AsyncIterator[str | Draft]:
        """Yield the best sentences in the order of their passages, then the Draft."""
        candidates = list(islice(_candidates(passages), MAX_SENTENCES))
        texts = [f"{passage.title}: {span.of(passage.text)}" for passage, span in candidates]
        rows = (await self._embedder.embed_documents(texts)).rows
        scores = rows @ request.vector
        ranked = sorted(range(len(candidates)), key=lambda number: -float(scores[number]))
        min_score = _MIN_RELATIVE_SCORE * scores[ranked[0]]
        best = [number for number in ranked if scores[number] >= min_score][:MAX_QUOTES]
        draft = self._quote([candidates[number] for number in sorted(best)], passages)
        yield draft.text
        yield draft

    def _quote(self, chosen: Sequence[tuple[Passage, Span]], passages: Sequence[Passage]) -> Draft:
        text, citations = self.OPENING, []
        for passage, span in chosen:
            quote = span.of(passage.text)
            start = len(text) + 2  # after a space and the opening quotation mark
            text += f" “{quote}”"
            citations.append(cite(passage, span, Span(start, start + len(quote))))
        return Draft(text, citations, list(passages))


def _candidates(passages: Sequence[Passage]) -> Iterator[tuple[Passage, Span]]:
    """Yield the sentences of passages, without repetitions of the same words."""
    known: set[str] = set()
    for passage in passages:
        for span in sentences(passage.text):
            sentence = span.of(passage.text)
            words = _NOT_WORDS.sub(" ", sentence).strip().casefold() or sentence
            if words not in known:
                known.add(words)
                yield passage, span
