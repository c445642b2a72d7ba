"""The published rule of a cache with an error bound, written from its description as a baseline.

vCache (arXiv 2502.03771): every entry has observations of its own, one logistic curve over the
cosine, and an interval on where the curve crosses one half; by chance the model is asked, so that a
request is answered wrongly with a probability of at most delta.
"""

import functools

import numpy as np
from scipy.stats import norm

FEWEST = 6
_MISSED = np.linspace(0, 1, 52)[1:-1]
_WIDTHS = norm.ppf(1 - _MISSED)
STEEP = 1e3


class Observed:
    """An entry's observations: cosines, and whether its answer was right."""

    def __init__(self) -> None:
        self._cosines, self._right = [0.0, 1.0], [False, True]
        self._curve: tuple[float, float, float] | None = None

    def add(self, cosine: float, right: bool) -> None:
        self._cosines.append(cosine)
        self._right.append(right)
        self._curve = None

    def asks(self, cosine: float, delta: float, dice: float) -> bool:
        """Say whether to ask the model rather than serve; ``dice`` is uniform in (0, 1)."""
        if len(self._right) < FEWEST:
            return True
        if self._curve is None:
            self._curve = fit(np.array(self._cosines), np.array(self._right))
        middle, slope, spread = self._curve
        surely = (1 - _MISSED) * logistic(slope * (cosine - middle - _WIDTHS * spread))
        return bool(dice <= (1 - delta / (1 - surely)).min())


def fit(cosines: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """Return the likeliest curve's middle and slope, and the middle's standard deviation."""
    low, high = cosines[~right].max(), cosines[right].min()
    if low < high:  # no likeliest slope: it has no end
        return float(low + high) / 2, STEEP, separable_spread(len(right))
    inputs = np.stack([np.ones_like(cosines), cosines], axis=1)
    weights = np.zeros(2)
    for _ in range(30):
        likely = logistic(inputs @ weights)
        bend = (inputs.T * np.maximum(likely * (1 - likely), 1e-9)) @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(bend, inputs.T @ (right - likely))
        weights += step * min(1.0, 20 / np.abs(step).max())
        if np.abs(step).max() < 1e-5:
            break
    slope = max(float(weights[1]), 1e-6)
    gradient = np.array([-1 / slope, weights[0] / slope**2])
    spread = float(np.sqrt(max(gradient @ np.linalg.pinv(bend) @ gradient, 0.0)))
    return min(max(-float(weights[0]) / slope, 0.0), 1.0), slope, spread


@functools.cache
def separable_spread(count: int) -> float:
    """Return how far off the middle of observations that part cleanly is, simulated."""
    if count > 200:
        return separable_spread(200)
    dice = np.random.default_rng(count)
    errors: list[float] = []
    while len(errors) < 400:
        middle, slope = dice.random(), np.exp(dice.uniform(np.log(10), np.log(100)))
        cosines = np.append(dice.random(count - 2), [0, 1])
        right = (
            np.append(dice.random(count - 2) < logistic(slope * (cosines[:-2] - middle)), [0, 1])
            > 0
        )
        low, high = cosines[~right].max(), cosines[right].min()
        if low < high:
            errors.append((low + high) / 2 - middle)
    return float(np.std(errors))


def logistic(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))))
