"""RagService by quoting the sentences nearest to the question."""

from collections.abc import AsyncIterator, Sequence

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.rag.citations import cite
from services.gateway.rag.ingest.segmentation import Span, sentences
from services.gateway.rag.retrieval import Passage
from services.gateway.rag.types import Draft, Task

QUOTES = 3
CANDIDATES = 48


class ExtractiveWriter:
    """Quotes the sentences nearest to the question, and says that it does: it never invents."""

    OPENING = "No language model is set; these sentences answer best:"

    def __init__(self, embedder: EmbedderClient) -> None:
        self._embedder = embedder

    async def write(self, task: Task, passages: Sequence[Passage]) -> AsyncIterator[str | Draft]:
        """Yield the best sentences in the order of their passages, each cited word for word."""
        candidates = [(passage, span) for passage in passages for span in sentences(passage.text)][
            :CANDIDATES
        ]
        texts = [f"{passage.title}: {span.of(passage.text)}" for passage, span in candidates]
        asked = await self._embedder.embed_queries([task.question])
        rows = (await self._embedder.embed_documents(texts)).rows
        scores = rows @ asked.rows[0]
        ranked = sorted(range(len(candidates)), key=lambda number: -float(scores[number]))
        best = [number for number in ranked if scores[number] >= 0.6 * scores[ranked[0]]][:QUOTES]
        draft = self._quote([candidates[number] for number in sorted(best)], passages)
        yield draft.text
        yield draft

    def _quote(self, chosen: Sequence[tuple[Passage, Span]], passages: Sequence[Passage]) -> Draft:
        text, citations = self.OPENING, []
        for passage, span in chosen:
            quote = span.of(passage.text)
            start = len(text) + 2
            text += f" “{quote}”"
            citations.append(cite(passage, span, start, start + len(quote)))
        return Draft(text, citations, list(passages))
