"""Judges pairs of questions in two stages.

The numpy verifier judges first. Where it is not sure, the embedder's cross-encoder reads both
questions together. Without the embedder, the first judgement stands.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.errors import Failure
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.verifier.model import Judgement, Question, Verifier

MODEL = "memetwin-question-pairs"
# The cross-encoder reads only pairs that the first stage finds neither unlikely nor certain.
UNSURE = 0.02, 0.995
AT_ONCE = 3  # candidates that one call scores
TIMEOUT = 0.2  # seconds that a lookup waits for the scores
PAUSE = 5.0  # seconds without calls after the embedder could not score


class Pair(Protocol):
    """A cached question, and its cosine similarity to the new question."""

    @property
    def question(self) -> Question:
        """The cached question."""
        ...

    @property
    def similarity(self) -> float:
        """The cosine similarity."""
        ...


class PairVerifier:
    """Judges candidates for a question. ``embedder`` is None where none may be called."""

    def __init__(self, verifier: Verifier, embedder: EmbedderClient | None) -> None:
        self._verifier = verifier
        self._embedder = embedder
        self._paused_until = 0.0

    def judging(self, question: Question, pairs: Sequence[Pair]) -> "Judging":
        """Return the judgements of a question's candidates, from near to far."""
        return Judging(self, question, pairs)

    def judge_first(self, question: Question, pair: Pair) -> Judgement:
        """Judge with the first stage."""
        return self._verifier.judge(question, pair.question, pair.similarity)

    def refine(self, judgement: Judgement, pair: Pair, score: float) -> Judgement:
        """Judge with a score of the cross-encoder too."""
        return self._verifier.refine(judgement, pair.similarity, score)

    async def scores(self, question: Question, others: Sequence[Question]) -> list[float]:
        """Return the cross-encoder's scores, or no scores if the embedder has none in time."""
        if self._embedder is None or time.monotonic() < self._paused_until:
            return []
        try:
            scores, digest = await self._embedder.score_pairs(
                question.text.raw, [other.text.raw for other in others], MODEL, TIMEOUT
            )
        except Failure:
            self._paused_until = time.monotonic() + PAUSE
            return []
        return scores.tolist() if self._verifier.knows_scores_of(digest) else []


@dataclass
class Judging:
    """The judgements of one question's candidates, from near to far."""

    verifier: PairVerifier
    question: Question
    pairs: Sequence[Pair]
    _scores: dict[int, float | None] = field(default_factory=dict)

    async def judge(self, index: int) -> Judgement:
        """Judge a candidate. The first call of the cross-encoder scores the next ones too."""
        pair = self.pairs[index]
        first = self.verifier.judge_first(self.question, pair)
        if not is_unsure(first):
            return first
        if index not in self._scores:
            await self._read_scores(index)
        score = self._scores[index]
        return first if score is None else self.verifier.refine(first, pair, score)

    async def _read_scores(self, first: int) -> None:
        others = [pair.question for pair in self.pairs[first : first + AT_ONCE]]
        scores = await self.verifier.scores(self.question, others)
        for offset in range(len(others)):
            self._scores[first + offset] = scores[offset] if scores else None


def is_unsure(judgement: Judgement) -> bool:
    """Return whether the cross-encoder can change a judgement of the first stage."""
    return not judgement.contradicts and UNSURE[0] < judgement.probability < UNSURE[1]
