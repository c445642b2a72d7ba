"""Fits when to refuse a question: by the cosine of the nearest chunk, or by several features.

The probability of an answer is a logistic curve (Platt, "Probabilistic outputs for support vector
machines", 1999). Answerable and unanswerable questions have the same total weight in the fit.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# At most this share of the answerable questions may be refused, as far as the labels show.
MAX_LOST = 0.05
_NEWTON_STEPS = 50
# Pulls the slope towards 0, so that it stays finite for separable questions.
_RIDGE = 1e-5
# Pulls the weights of standardised features towards 0, since there may be few questions.
_RELEVANCE_RIDGE = 3e-3
_MIN_SLOPE = 1e-6
_FOLDS = 5
# The features decide if they refuse this much more of the unanswerable questions than the cosine.
_MIN_GAIN = 0.02

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """The fit for a collection and a model.

    Attributes:
        min_score: minimum cosine similarity for an answer.
        slope: slope of the logistic curve.
        middle: cosine similarity at which the probability is one half.
        weights: the weight of each feature of ``relevance`` and the constant; empty if the cosine
            decides. Calibrations of earlier versions have none.
        min_relevance: minimum probability for an answer, if there are weights.
    """

    min_score: float
    slope: float
    middle: float
    weights: Sequence[float] = ()
    min_relevance: float = 0.0

    def probability(self, score: float) -> float:
        """Return the probability, in (0, 1), that a chunk this similar answers a question."""
        return 1 / (1 + math.exp(-self.slope * (score - self.middle)))

    def relevance(self, features: Scores) -> float:
        """Return the probability, in (0, 1), that hits with these features answer a question."""
        score = float(features @ self.weights[:-1]) + self.weights[-1]
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def fit(answerable: Scores, unanswerable: Scores) -> Calibration:
    """Fit a calibration to the similarities of answerable and of unanswerable questions."""
    slope, middle = _fit_cosine(answerable, unanswerable)
    return Calibration(_best_threshold(answerable, unanswerable), slope, middle)


def fit_relevance(
    calibration: Calibration, answerable: Scores, unanswerable: Scores
) -> Calibration:
    """Add weights to a calibration if the features refuse more than the cosine.

    Both are measured on questions that the weights were not fitted to.

    Args:
        calibration: the calibration of the cosine, the first feature.
        answerable: the features of answerable questions, float64 [questions, features].
        unanswerable: the features of unanswerable questions, likewise.
    """
    right, wrong = _held_out(answerable, unanswerable)
    min_relevance = _best_threshold(right, wrong)
    gain = np.mean(wrong < min_relevance) - np.mean(unanswerable[:, 0] < calibration.min_score)
    if gain < _MIN_GAIN:
        return calibration
    weights = tuple(map(float, _fit_weights(answerable, unanswerable)))
    return replace(calibration, weights=weights, min_relevance=min_relevance)


def _held_out(answerable: Scores, unanswerable: Scores) -> tuple[Scores, Scores]:
    """Return the probability of each question by weights fitted to other questions."""
    right, wrong = np.empty(len(answerable)), np.empty(len(unanswerable))
    for fold in range(_FOLDS):
        apart = [np.arange(len(one)) % _FOLDS == fold for one in (right, wrong)]
        weights = _fit_weights(answerable[~apart[0]], unanswerable[~apart[1]])
        fitted = Calibration(0.0, 0.0, 0.0, tuple(weights))
        right[apart[0]] = [fitted.relevance(row) for row in answerable[apart[0]]]
        wrong[apart[1]] = [fitted.relevance(row) for row in unanswerable[apart[1]]]
    return right, wrong


def halves(rows: Sequence[Scores]) -> tuple[Scores, Scores]:
    """Split the features of questions into a half to fit and a half to measure, seeded."""
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)  # noqa: S311 - not a secret
    return np.array(shuffled[::2]), np.array(shuffled[1::2])


def _best_threshold(answerable: Scores, unanswerable: Scores) -> float:
    """Return the threshold with the smallest sum of both error rates.

    Of further answerable questions, at most a share of ``MAX_LOST`` is expected below it: of n
    scores, a new one is among the k + 1 lowest with a probability of (k + 1) / (n + 1). If there
    are several such thresholds, return their median.
    """
    values = np.unique(np.concatenate([answerable, unanswerable]))
    cuts = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    lost = _share_below(answerable, cuts)
    count = lost * len(answerable)
    is_safe = ((count + 1) / (len(answerable) + 1) <= MAX_LOST) | (count == 0)
    errors = np.where(is_safe, lost + 1 - _share_below(unanswerable, cuts), np.inf)
    best = np.flatnonzero(np.isclose(errors, errors.min()))
    return float(cuts[best[len(best) // 2]])


def _share_below(scores: Scores, cuts: Scores) -> Scores:
    """Return the share of scores below each threshold."""
    return np.searchsorted(np.sort(scores), cuts) / len(scores)


def _fit_cosine(answerable: Scores, unanswerable: Scores) -> tuple[float, float]:
    """Return slope and middle of the logistic curve of the cosine."""
    slope, constant = _fit_logistic(answerable[:, None], unanswerable[:, None], _RIDGE)
    slope = max(float(slope), _MIN_SLOPE)
    return slope, -float(constant) / slope


def _fit_weights(answerable: Scores, unanswerable: Scores) -> Scores:
    """Return the weight of each feature, and the constant."""
    every = np.concatenate([answerable, unanswerable])
    mean, scale = every.mean(0), every.std(0) + 1e-6
    fitted = _fit_logistic(
        (answerable - mean) / scale, (unanswerable - mean) / scale, _RELEVANCE_RIDGE
    )
    weights = fitted[:-1] / scale
    return np.append(weights, fitted[-1] - weights @ mean)


def _fit_logistic(answerable: Scores, unanswerable: Scores, ridge: float) -> Scores:
    """Return weights and constant of a logistic curve, by Newton's method with a ridge penalty."""
    counts = [len(answerable), len(unanswerable)]
    x = np.concatenate([answerable, unanswerable])
    y = np.repeat([1.0, 0.0], counts)
    weight = np.repeat([0.5 / counts[0], 0.5 / counts[1]], counts)
    features = np.column_stack([x, np.ones(len(x))])
    penalty = np.append(np.full(x.shape[1], ridge), 0.0)
    beta = np.zeros(features.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(features @ beta, -30, 30)))
        gradient = features.T @ (weight * (p - y)) + penalty * beta
        hessian = (features * (weight * p * (1 - p))[:, None]).T @ features
        beta -= np.linalg.solve(hessian + np.diag(np.maximum(penalty, 1e-9)), gradient)
    return beta
