"""Judges two questions in two stages.

The numpy verifier judges first. Where it is not sure, the embedder's cross-encoder reads both
questions together. Without the embedder, the first judgement stands.
"""

import time
from collections.abc import Callable

from services.errors import Failure
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.verifier.model import Judgement, Question, Verifier

MODEL = "memetwin-question-pairs"
# The cross-encoder reads only pairs that the first stage finds neither unlikely nor certain.
UNSURE = 0.02, 0.995
# A probability of the first stage that may suffice for a hit. Of 1,200 hits on simulated caches at
# an error rate of .03, 83 % then need no cross-encoder. 18 are wrong, and with it 14 are.
LIKELY = 0.7
TIMEOUT = 0.2  # seconds that a lookup waits for a score
PAUSE = 5.0  # seconds without calls after the embedder could not score


class PairVerifier:
    """Judges pairs of questions. Without ``embedder``, only the first stage judges."""

    def __init__(self, verifier: Verifier, embedder: EmbedderClient | None) -> None:
        self._verifier = verifier
        self._embedder = embedder
        self._paused_until = 0.0

    async def judge(
        self,
        one: Question,
        other: Question,
        similarity: float,
        suffices: Callable[[float], bool] = lambda probability: False,
    ) -> Judgement:
        """Judge whether the answer to one of two questions may serve the other.

        Args:
            one: a question.
            other: another question.
            similarity: their cosine.
            suffices: tells of a probability of the first stage whether it suffices for a hit. The
                cross-encoder takes as long as the embedding of a text, so it does not judge then.
        """
        first = self._verifier.judge(one, other, similarity)
        if not is_unsure(first):
            return first
        if first.probability >= LIKELY and suffices(first.probability):
            return first
        score = await self._score(one.text.raw, other.text.raw)
        if score is None:
            return first
        return self._verifier.refine(first, one, other, similarity, score)

    async def _score(self, one: str, other: str) -> float | None:
        """Return the cross-encoder's score, or None if the embedder has none in time."""
        if self._embedder is None or time.monotonic() < self._paused_until:
            return None
        try:
            scores, digest = await self._embedder.score_pairs(one, [other], MODEL, TIMEOUT)
        except Failure:
            self._paused_until = time.monotonic() + PAUSE
            return None
        return float(scores[0]) if self._verifier.knows_scores_of(digest) else None


def is_unsure(judgement: Judgement) -> bool:
    """Return whether the cross-encoder can change a judgement of the first stage."""
    return not judgement.contradicts and UNSURE[0] < judgement.probability < UNSURE[1]
