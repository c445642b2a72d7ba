"""Logistic regression with a Gaussian prior on the weights, in pure NumPy."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MAX_STEPS, _MAX_HALVINGS, _TOLERANCE = 20, 6, 1e-3


def logistic(scores: Array) -> Array:
    """Return the logistic function of scores, in (0, 1)."""
    probabilities: Array = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    return probabilities


class PriorLogisticRegression:
    """Fits weights with Newton's method, and halves each step until the loss falls.

    Args:
        mean: the prior's mean, [features].
        precision: the prior's inverse variances, [features].
    """

    def __init__(self, mean: Array, precision: Array) -> None:
        self._mean, self._precision = mean, precision
        self.weights = mean

    def probabilities(self, rows: Array) -> Array:
        """Return the probability of each row, [n, features] or [features]."""
        return logistic(rows @ self.weights)

    def fit(self, rows: Array, labels: Array) -> None:
        """Move the weights to the maximum a posteriori for rows, [n, features], and 0-1 labels."""
        for _ in range(_MAX_STEPS):
            likely = self.probabilities(rows)
            gradient = rows.T @ (labels - likely) - self._precision * (self.weights - self._mean)
            hessian = (rows.T * (likely * (1 - likely))) @ rows + np.diag(self._precision)
            step, loss = np.linalg.solve(hessian, gradient), self._loss(rows, labels, self.weights)
            for _ in range(_MAX_HALVINGS):
                if self._loss(rows, labels, self.weights + step) <= loss:
                    self.weights = self.weights + step
                    break
                step = step / 2
            if np.abs(step).max() < _TOLERANCE:
                break

    def _loss(self, rows: Array, labels: Array, weights: Array) -> float:
        scores = rows @ weights
        misfit = np.logaddexp(0, scores) - labels * scores
        return float(misfit.sum() + self._precision @ (weights - self._mean) ** 2 / 2)
