"""Decides which cached answers may be served under a largest share of wrong ones; pure numpy.

A published rule (vCache, arXiv 2502.03771) fits one logistic curve for each entry and serves by
chance within a bound for each request. Here all answers of a tenant share one curve over several
signs, which begins as the verifier's probability and is fitted again whenever an observation
arrives: so a young entry need not wait for labels of its own, and what went wrong with one answer
counts against that answer. Served is what keeps the expected share of wrong hits below the bound,
and never what is more likely wrong than right. Labels come from misses, whose new answer is
compared with the one that was not served, and from hits that were asked again or judged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.types import Observation, Sighting

Array = NDArray[np.float64]

FLOOR = 0.5
MEMORY = 4096  # observations that count, the latest
# Tuned on other shuffles, and on half of the intents, than tests/bench/budget.py measures with.
SAFETY = 0.75  # part of the bound that is aimed at
TRUST = 200.0  # observations that the curve's own estimate is worth beside what was counted
DOUBT = 2.0  # errors of served answers that are expected before any is seen
HALF_LIFE = 200  # served answers after which one that was looked at counts half for control
SHRINK = 2.0  # labels of an answer before they weigh much
FEWEST, FIRST = 0.03, 10.0  # least share of hits that are asked again; how many are at first
_START = np.array([0, 1, 0, 0, 0, 0, 1], float)  # the verifier's log-odds, and the answer's record
_STIFF = np.array([1, 1, 1, 1, 1, 1, 20], float)  # how firmly the weights are held there
_STEPS, _ENOUGH = 20, 1e-3


class Budget:
    """What a tenant's observations say, and what may be served by that."""

    def __init__(self) -> None:
        self._kin: dict[str, str] = {}
        self._rows = np.zeros((0, len(_START)))
        self._labels = np.zeros((0, 5))  # right, served, weight, probability, answer's number
        self._weights = _START
        self._numbers: dict[str, int] = {}
        self._tallies = np.zeros((2, 2, 0))  # wrong and right: counted and expected, by number
        self._curve = np.zeros((2, 0))  # probabilities, falling; share of wrong down to each
        self._excess = 1.0

    def look(self, neighbours: Sequence[tuple[float, str]], log_odds: float) -> Sighting:
        """Return what is seen of the nearest of some answers: cosines and names, from near to far.

        ``log_odds`` are the verifier's that the nearest is right.
        """
        cosines = np.array([cosine for cosine, _ in neighbours])
        names = [self._root(name) for _, name in neighbours]
        agree = np.array([name == names[0] for name in names])
        others = cosines[~agree]
        pull = np.exp(20 * (cosines - cosines[0]))
        margin = cosines[0] - (others[0] if len(others) else cosines[-1])
        signs = (
            1.0,
            float(log_odds),
            float(5 * (cosines[0] - 0.85)),
            float(10 * margin),
            float(agree.all()),
            float(pull[agree].sum() / pull.sum() - 0.5),
            self._record(names[0]),
        )
        return Sighting(names[0], signs)

    def probability(self, sighting: Sighting) -> float:
        """Return how likely the answer is right, in (0, 1)."""
        return float(_logistic(np.array(sighting.signs) @ self._weights))

    def bound(self, max_error_rate: float) -> float:
        """Return the least probability to serve at.

        Of what is served by it at most this share, in (0, 1), is expected to be wrong.
        """
        falling, wrong = self._curve
        if not len(falling):
            return max(FLOOR, 1 - max_error_rate)
        aim = max_error_rate * SAFETY
        last = int(np.flatnonzero(np.append(0, wrong) <= aim)[-1])  # how many labels are within it
        ends = np.concatenate([[1], falling, [0]])[last : last + 2]
        # Between two labels it is the curve that says what keeps the share.
        likely = 1 - aim / self._excess
        return max(FLOOR, float(min(ends[0], max(likely, np.nextafter(ends[1], 1)))))

    def sampling(self) -> float:
        """Return the share of hits to ask again."""
        return max(FEWEST, FIRST / (FIRST + float(self._labels[:, 1].sum())))

    def wrong(self) -> tuple[int, int]:
        """Return how many served answers were found wrong, of how many that were looked at."""
        served = self._labels[self._labels[:, 1] > 0]
        return int((1 - served[:, 0]).sum()), len(served)

    def add(self, observations: Sequence[Observation]) -> None:
        """Take observations in and fit again; those by other signs, of another version, are not."""
        observations = [one for one in observations if len(one.sighting.signs) == len(_START)]
        if not observations:
            return
        rows, labels = [], []
        for one in observations:
            name = self._root(one.sighting.answer)
            if one.right and one.found and self._root(one.found) != name:
                self._kin[self._root(one.found)] = name
            number = self._numbers.setdefault(name, len(self._numbers))
            rows.append(one.sighting.signs)
            labels.append((one.right, one.served, one.weight, one.probability, number))
        for old in list(self._kin)[:-MEMORY]:
            del self._kin[old]
        self._rows = np.concatenate([self._rows, rows])[-MEMORY:]
        self._labels = np.concatenate([self._labels, labels])[-MEMORY:]
        self._fit()
        self._count()
        self._control()

    def _fit(self) -> None:
        """Take Newton's steps, halved where they go too far, to the likeliest weights."""
        right = self._labels[:, 0]
        for _ in range(_STEPS):
            likely = _logistic(self._rows @ self._weights)
            slope = self._rows.T @ (right - likely) - _STIFF * (self._weights - _START)
            bend = (self._rows.T * (likely * (1 - likely))) @ self._rows + np.diag(_STIFF)
            step, before = np.linalg.solve(bend, slope), self._loss(self._weights)
            for _ in range(6):
                if self._loss(self._weights + step) <= before:
                    self._weights = self._weights + step
                    break
                step = step / 2
            if np.abs(step).max() < _ENOUGH:
                break

    def _loss(self, weights: Array) -> float:
        scores = self._rows @ weights
        misfit = np.logaddexp(0, scores) - self._labels[:, 0] * scores
        return float(misfit.sum() + _STIFF @ (weights - _START) ** 2 / 2)

    def _count(self) -> None:
        """Count how often each answer was right, and how often that was expected."""
        right, _, _, likely, number = self._labels.T
        if len(self._numbers) > 2 * MEMORY:  # forget answers that no label names
            kept, order = np.unique(number, return_inverse=True)
            names = list(self._numbers)
            self._numbers = {names[int(one)]: place for place, one in enumerate(kept)}
            self._labels[:, 4] = number = order.astype(float)
        places: Any = number.astype(int)
        sums: list[NDArray[Any]] = [
            np.bincount(places, part, len(self._numbers))
            for part in (1 - right, right, 1 - likely, likely)
        ]
        self._tallies = np.array(sums, float).reshape(2, 2, -1)

    def _record(self, name: str) -> float:
        """Return the log-odds by which an answer does better than expected."""
        number = self._numbers.get(name)
        if number is None:
            return 0.0
        counted, expected = self._tallies[:, :, number] + SHRINK
        wrong, right = np.log(counted / expected)
        return float(right - wrong)

    def _control(self) -> None:
        """Estimate the share of wrong hits at every bound, and hold it against what came of hits.

        The estimate joins the curve's own with what was counted. If lately more served answers were
        wrong than had been expected, all of it grows in that proportion.
        """
        right, served, weight, before, _ = self._labels.T
        likely = _logistic(self._rows @ self._weights)
        order = np.argsort(-likely, kind="stable")
        mass = np.cumsum(weight[order])
        expected = np.cumsum((weight * (1 - likely))[order]) / mass
        counted = np.cumsum((weight * (1 - right))[order])
        recent = served * 0.5 ** ((served.sum() - np.cumsum(served)) / HALF_LIFE)
        wrong, feared = recent @ (1 - right), recent @ (1 - before)
        self._excess = max(1.0, float((DOUBT + wrong) / (DOUBT + feared)))
        shares = self._excess * (TRUST * expected + counted) / (TRUST + mass)
        self._curve = np.array([likely[order], shares])

    def _root(self, name: str) -> str:
        while name in self._kin:
            name = self._kin[name]
        return name


def _logistic(scores: Array) -> Array:
    likely: Array = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    return likely
