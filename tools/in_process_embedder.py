"""Embeds texts with real models in this process, for tools and benchmarks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.embedder.models.question_pairs import QuestionPairModel
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.embedder.readability import Readability
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import TextReading, Vectors

_BATCH = 128


class InProcessEmbedder(EmbedderClient):
    """Embeds texts and scores pairs in this process, and remembers the results."""

    def __init__(self) -> None:
        self._texts = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
        self._pairs = QuestionPairModel.load()
        self._readability = Readability.for_model(self._texts, None)
        self._rows: dict[str, tuple[NDArray[np.float32], TextReading]] = {}
        self._scores: dict[tuple[str, str], float] = {}
        self.digest = self._texts.info.digest

    async def embed_queries(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        """Return the vectors of questions, see ``EmbedderClient``."""
        self._read([text for text in dict.fromkeys(texts) if text not in self._rows])
        rows, readings = zip(*(self._rows[text] for text in texts), strict=True)
        return Vectors(np.stack(rows), "", self.digest, readings)

    async def score_pairs(
        self, question: str, others: Sequence[str], model: str, seconds: float
    ) -> tuple[NDArray[np.float64], str]:
        """Return the scores of pairs and the model's digest, see ``EmbedderClient``."""
        return np.array([self._score(question, other) for other in others]), self._pairs.info.digest

    def score_all(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Score many pairs in batches, which is faster than one by one."""
        inputs = self._pairs.prepare(pairs, "")
        order = sorted(range(len(pairs)), key=lambda place: inputs[place].cost)
        for first in range(0, len(order), _BATCH):
            batch = order[first : first + _BATCH]
            scores = self._pairs.encode([inputs[place] for place in batch])[:, 0]
            self._scores |= dict(zip((pairs[place] for place in batch), scores, strict=True))

    def _score(self, one: str, other: str) -> float:
        if (one, other) not in self._scores:
            self.score_all([(one, other)])
        return float(self._scores[one, other])

    def _read(self, texts: Sequence[str]) -> None:
        inputs = self._texts.prepare(texts, "query")
        order = sorted(range(len(texts)), key=lambda place: inputs[place].cost)
        for first in range(0, len(order), _BATCH):
            batch = order[first : first + _BATCH]
            vectors = self._texts.encode([inputs[place] for place in batch])
            for place, vector in zip(batch, vectors, strict=True):
                read = self._readability.judge(inputs[place].reading)
                reading = TextReading()
                if read:
                    cut = ((read.end, read.length),) if read.end < read.length else ()
                    reading = TextReading(read.readable, bool(cut), (*read.unread, *cut))
                self._rows[texts[place]] = (vector / np.linalg.norm(vector), reading)
