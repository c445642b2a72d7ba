"""The rule of vCache (arXiv 2502.03771), written from its description as a baseline.

Every entry has its own observations, one logistic curve over the cosine, and a confidence interval
on the cosine at which the curve crosses one half. The rule calls the model at random, so that each
request gets a wrong answer with a probability of at most delta.
"""

import functools

import numpy as np
from scipy.stats import norm

MIN_OBSERVATIONS = 6
_CONFIDENCE_GAPS = np.linspace(0, 1, 52)[1:-1]
_WIDTHS = norm.ppf(1 - _CONFIDENCE_GAPS)
MAX_SLOPE = 1e3


class EntryRule:
    """The observations of one entry: cosines, and whether its answer was correct."""

    def __init__(self) -> None:
        self._cosines, self._correct = [0.0, 1.0], [False, True]
        self._curve: tuple[float, float, float] | None = None

    def add(self, cosine: float, correct: bool) -> None:
        self._cosines.append(cosine)
        self._correct.append(correct)
        self._curve = None

    def explores(self, cosine: float, delta: float, sample: float) -> bool:
        """Return whether to call the model rather than serve; ``sample`` is uniform in (0, 1)."""
        if len(self._correct) < MIN_OBSERVATIONS:
            return True
        if self._curve is None:
            self._curve = fit(np.array(self._cosines), np.array(self._correct))
        middle, slope, spread = self._curve
        certain = (1 - _CONFIDENCE_GAPS) * logistic(slope * (cosine - middle - _WIDTHS * spread))
        return bool(sample <= (1 - delta / (1 - certain)).min())


def fit(cosines: np.ndarray, correct: np.ndarray) -> tuple[float, float, float]:
    """Return the middle and slope of the maximum-likelihood curve, and the middle's deviation."""
    low, high = cosines[~correct].max(), cosines[correct].min()
    if low < high:  # separable: the likelihood grows without limit with the slope
        return float(low + high) / 2, MAX_SLOPE, separable_spread(len(correct))
    inputs = np.stack([np.ones_like(cosines), cosines], axis=1)
    weights = np.zeros(2)
    for _ in range(30):
        likely = logistic(inputs @ weights)
        hessian = (inputs.T * np.maximum(likely * (1 - likely), 1e-9)) @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, inputs.T @ (correct - likely))
        weights += step * min(1.0, 20 / np.abs(step).max())
        if np.abs(step).max() < 1e-5:
            break
    slope = max(float(weights[1]), 1e-6)
    gradient = np.array([-1 / slope, weights[0] / slope**2])
    spread = float(np.sqrt(max(gradient @ np.linalg.pinv(hessian) @ gradient, 0.0)))
    return min(max(-float(weights[0]) / slope, 0.0), 1.0), slope, spread


@functools.cache
def separable_spread(count: int) -> float:
    """Return the simulated deviation of the middle for separable observations."""
    if count > 200:
        return separable_spread(200)
    rng = np.random.default_rng(count)
    errors: list[float] = []
    while len(errors) < 400:
        middle, slope = rng.random(), np.exp(rng.uniform(np.log(10), np.log(100)))
        cosines = np.append(rng.random(count - 2), [0, 1])
        correct = (
            np.append(rng.random(count - 2) < logistic(slope * (cosines[:-2] - middle)), [0, 1]) > 0
        )
        low, high = cosines[~correct].max(), cosines[correct].min()
        if low < high:
            errors.append((low + high) / 2 - middle)
    return float(np.std(errors))


def logistic(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))))
