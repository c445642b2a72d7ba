"""Fits a threshold and a probability of an answer to the similarity of the nearest chunk.

The probability is a logistic curve (Platt, "Probabilistic outputs for support vector machines",
1999). Answerable and unanswerable questions have the same total weight in the fit.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEWTON_STEPS = 50
# Pulls the slope towards 0, so that it stays finite for separable questions.
_RIDGE = 1e-5
_MIN_SLOPE = 1e-6

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """The fit for a collection and a model.

    Attributes:
        min_score: minimum cosine similarity for an answer.
        slope: slope of the logistic curve.
        middle: cosine similarity at which the probability is one half.
    """

    min_score: float
    slope: float
    middle: float

    def probability(self, score: float) -> float:
        """Return the probability, in (0, 1), that a chunk this similar answers a question."""
        return 1 / (1 + math.exp(-self.slope * (score - self.middle)))


def fit(answerable: Scores, unanswerable: Scores) -> Calibration:
    """Fit a calibration to the similarities of answerable and of unanswerable questions."""
    slope, middle = _fit_logistic(answerable, unanswerable)
    return Calibration(_best_threshold(answerable, unanswerable), slope, middle)


def halves(scores: Sequence[float]) -> tuple[Scores, Scores]:
    """Split scores into a half to fit and a half to measure, by a seeded shuffle."""
    shuffled = list(scores)
    random.Random(0).shuffle(shuffled)  # noqa: S311 - not a secret
    return np.array(shuffled[::2]), np.array(shuffled[1::2])


def _best_threshold(answerable: Scores, unanswerable: Scores) -> float:
    """Return the threshold with the smallest sum of both error rates.

    If there are several, return their median.
    """
    values = np.unique(np.concatenate([answerable, unanswerable]))
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    errors = _share_below(answerable, cuts) + 1 - _share_below(unanswerable, cuts)
    best = np.flatnonzero(np.isclose(errors, errors.min()))
    return float(cuts[best[len(best) // 2]])


def _share_below(scores: Scores, cuts: Scores) -> Scores:
    """Return the share of scores below each threshold."""
    return np.searchsorted(np.sort(scores), cuts) / len(scores)


def _fit_logistic(answerable: Scores, unanswerable: Scores) -> tuple[float, float]:
    """Return slope and middle of the logistic curve, by Newton's method with a ridge penalty."""
    counts = [len(answerable), len(unanswerable)]
    x = np.concatenate([answerable, unanswerable])
    y = np.repeat([1.0, 0.0], counts)
    weight = np.repeat([0.5 / counts[0], 0.5 / counts[1]], counts)
    features = np.stack([x, np.ones_like(x)], 1)
    beta = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(features @ beta, -30, 30)))
        gradient = features.T @ (weight * (p - y)) + _RIDGE * beta * (1, 0)
        hessian = (features * (weight * p * (1 - p))[:, None]).T @ features
        beta = beta - np.linalg.solve(hessian + np.diag([_RIDGE, 1e-9]), gradient)
    slope = max(float(beta[0]), _MIN_SLOPE)
    return slope, -float(beta[1]) / slope
