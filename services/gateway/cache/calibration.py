"""Finds the loosest bounds that reach a precision on a caller's labelled pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts, split_in_halves
from services.gateway.cache.statistics import Proportion, wilson_interval
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier

MAX_PAIRS = 50_000
EMBED_BATCH = 256
CURVE_POINTS = 100
_REJECTED = -2.0  # below every bound


@dataclass(frozen=True)
class CalibratedBound:
    """A bound, and its performance on pairs that it was not chosen on.

    Attributes:
        bound: minimum score to serve at; None if no bound reaches the precision.
        precision: share of the served pairs that ask the same.
        recall: share served of the pairs that ask the same.
        curve: bounds with their precisions and hit ratios.
    """

    bound: float | None
    precision: Proportion
    recall: Proportion
    curve: list[tuple[float, float, float]]


@dataclass(frozen=True)
class _Scores:
    """Scores of pairs, float64 [n], and their labels, bool [n]."""

    similarity: NDArray[Any]
    probability: NDArray[Any]
    same: NDArray[Any]


class Calibration:
    """Scores pairs as the cache does, and finds bounds on the scores."""

    def __init__(self, embedder: EmbedderClient, verifier: Verifier) -> None:
        self._embedder = embedder
        self._verifier = verifier

    async def calibrate(
        self, pairs: Sequence[LabelledPair], precision: float
    ) -> tuple[CalibratedBound, CalibratedBound]:
        """Return the bounds on the cosine similarity and on the verifier's probability.

        Raises:
            InvalidArgument: there are too few pairs, too many or of one label only, or the
                precision is out of range.
        """
        halves = split_in_halves(pairs)
        _validate(pairs, halves, precision)
        fit, test = [await self._score(half) for half in halves]
        return (
            calibrate_bound((fit.similarity, fit.same), (test.similarity, test.same), precision),
            calibrate_bound((fit.probability, fit.same), (test.probability, test.same), precision),
        )

    async def _score(self, pairs: Sequence[LabelledPair]) -> _Scores:
        texts = distinct_texts(pairs)
        batches = [
            await self._embedder.embed_documents(texts[first : first + EMBED_BATCH], bulk=True)
            for first in range(0, len(texts), EMBED_BATCH)
        ]
        rows = np.concatenate([batch.rows for batch in batches])
        questions = {
            text: Question(LexicalText(text), row, batches[0].digest)
            for text, row in zip(texts, rows, strict=True)
        }
        scores = [self._score_pair(questions[pair.one], questions[pair.other]) for pair in pairs]
        similarity, probability = np.array(scores).T
        return _Scores(similarity, probability, np.array([pair.same for pair in pairs]))

    def _score_pair(self, one: Question, other: Question) -> tuple[float, float]:
        assert one.vector is not None and other.vector is not None  # noqa: PT018, S101 - embedded
        similarity = float(one.vector @ other.vector)
        judgement = self._verifier.judge(one, other, similarity)
        if judgement.rejected:
            return _REJECTED, _REJECTED
        return similarity, judgement.probability


def calibrate_bound(
    fit: tuple[NDArray[Any], NDArray[Any]],
    test: tuple[NDArray[Any], NDArray[Any]],
    precision: float,
) -> CalibratedBound:
    """Choose a bound on the scores and labels of ``fit``, and measure it on those of ``test``."""
    bound = lowest_bound(*fit, precision)
    scores, same = test
    served = scores >= (np.inf if bound is None else bound)
    correct = int((served & same).sum())
    return CalibratedBound(
        bound,
        wilson_interval(correct, int(served.sum())),
        wilson_interval(correct, int(same.sum())),
        _curve(scores, same),
    )


def _curve(scores: NDArray[Any], same: NDArray[Any]) -> list[tuple[float, float, float]]:
    accepted = scores[scores > _REJECTED]
    if not len(accepted):
        return []
    steps = np.unique(np.quantile(accepted, np.linspace(0, 1, CURVE_POINTS)))
    return [
        (float(step), float(same[scores >= step].mean()), float((scores >= step).mean()))
        for step in steps
    ]


def lowest_bound(scores: NDArray[Any], same: NDArray[Any], precision: float) -> float | None:
    """Return the lowest bound on the scores that reaches the precision, or None."""
    bounds, served, correct = served_at(scores, same)
    reached = np.flatnonzero((correct >= precision * served) & (bounds > _REJECTED))
    return float(bounds[reached[-1]]) if len(reached) else None


def served_at(
    scores: NDArray[Any], same: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the distinct scores in falling order, and how many pairs each would serve as a bound.

    Returns:
        The bounds, how many pairs each serves, and how many of those ask the same.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_score = np.append(np.diff(falling) != 0, True)  # a bound serves all equal scores
    served, correct = np.arange(1, len(order) + 1), np.cumsum(same[order])
    return falling[last_of_score], served[last_of_score], correct[last_of_score]


def _validate(
    pairs: Sequence[LabelledPair], halves: Sequence[Sequence[LabelledPair]], precision: float
) -> None:
    if not 0 < precision < 1:
        raise InvalidArgument(
            "BAD_PRECISION",
            "precision is out of range. Send a number between 0 and 1, exclusive.",
            field="precision",
        )
    if len(pairs) > MAX_PAIRS:
        raise InvalidArgument(
            "TOO_MANY_PAIRS", f"There are too many pairs. Send at most {MAX_PAIRS}.", field="pairs"
        )
    if any({pair.same for pair in half} != {True, False} for half in halves):
        raise InvalidArgument(
            "TOO_FEW_PAIRS",
            "There are too few pairs with one of the labels. Send more of both: the bound is"
            " chosen on one half and measured on the other.",
            field="pairs",
        )
