"""Decides which cached answers may be served under a maximum error rate; pure numpy.

vCache (arXiv 2502.03771) fits one logistic curve for each entry and serves at random within a bound
for each request. Here all answers of a tenant share one curve over several features. The curve
starts as the prior, which was fitted to caches of several domains, and is refitted with every
observation. A new entry does not have to wait for its own observations, and an error of an answer
counts against that answer. Before there are observations, the scores of the latest lookups show
how often this cache holds a correct entry.

The policy serves as many hits as it can while the expected share of wrong hits stays below the
bound. It never serves an answer that is more likely wrong than right. Observations come from
misses, where the policy compares the model's answer with the cached one that it did not serve. They
also come from hits that a shadow request or feedback has checked.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.error_budget.logistic import Array, PriorLogisticRegression, logistic
from services.gateway.cache.error_budget.prior import OBSERVED, Prior, design
from services.gateway.cache.error_budget.recent_lookups import (
    PRIOR_LOOKUPS,
    RecentLookups,
    base_rate_shift,
)
from services.gateway.cache.error_budget.types import MAX_OBSERVATIONS, Observation
from services.gateway.cache.index import BUDGET_CANDIDATES
from services.gateway.cache.types import CandidateFeatures

MIN_PROBABILITY = 0.5
# The share of the error rate that the policy aims at after many observations, whose estimates are
# too high. Tuned on shuffles other than those in tests/bench/budget.py.
WARM_SHARE = 1.1
WARM_OBSERVATIONS = 300.0  # after this many, the share is halfway
CURVE_WEIGHT = 200.0  # observations that the curve's own estimate counts for
PRIOR_ERRORS = 2.0  # wrong served answers, expected and counted, before any observation
HALF_LIFE = 200  # served answers after which an observation has half its weight in the control
PRIOR_OUTCOMES = 2.0  # correct and wrong outcomes of each answer before any observation
MIN_SHADOW_RATE = 0.03  # the minimum share of hits to check
FULL_SHADOW_HITS = 10.0  # after this many checked hits, half of the hits are checked
BASE_RATE_OBSERVATIONS = 50.0  # after this many, the lookups' shift counts half
FAR, FAR_IN_SMALL_CACHE = 0.5, 0.67  # the assumed cosine of entries that a small cache lacks
REFRESH_LOOKUPS = 8  # lookups between updates of the curve; the first ones each update it
_PRECISION = np.array([1, 1, 1, 1, 1, 1, 20, 1], float)


class ErrorBudget:
    """Learns from a tenant's lookups and observations which probability a hit must have."""

    def __init__(self, prior: Prior | None = None) -> None:
        self._prior = prior or Prior.load()
        self._recent = RecentLookups()
        self._shift = 0.0  # of the log odds, since the base rate differs from the prior's
        self._same_as: dict[str, str] = {}  # answer ids that were found to be equal
        self._rows = np.zeros((0, OBSERVED))
        # Columns: correct, served, weight, probability, answer's index.
        self._labels = np.zeros((0, 5))
        self._model = PriorLogisticRegression(self._prior.weights, _PRECISION)
        self._answer_index: dict[str, int] = {}
        # Wrong and correct outcomes, counted and expected, [2, 2, answers].
        self._outcomes = np.zeros((2, 2, 0))
        # Falling probabilities, and the expected share of wrong hits with each as the bound.
        self._error_curve = np.zeros((2, 0))
        self._excess = 1.0  # recent wrong hits over expected wrong hits
        self._update_error_curve()

    def features(
        self, candidates: Sequence[tuple[float, str]], log_odds: float
    ) -> CandidateFeatures:
        """Return the features of the nearest candidate.

        Args:
            candidates: cosine similarities and answer ids, from near to far.
            log_odds: the verifier's log odds that the nearest candidate is correct.
        """
        cosines = np.array([cosine for cosine, _ in candidates])
        answers = [self._canonical(answer) for _, answer in candidates]
        agree = np.array([answer == answers[0] for answer in answers])
        others = cosines[~agree]
        lacking = BUDGET_CANDIDATES - len(cosines)
        far = FAR + (FAR_IN_SMALL_CACHE - FAR) * lacking / BUDGET_CANDIDATES
        nearest_other = max(float(others[0]) if len(others) else 0.0, far if lacking else FAR)
        if not len(others) and not lacking:
            nearest_other = float(cosines[-1])
        votes = np.exp(20 * (cosines - cosines[0]))
        all_votes = votes.sum() + lacking * np.exp(20 * (far - cosines[0]))
        values = (
            1.0,
            float(log_odds),
            float(5 * (cosines[0] - 0.85)),
            float(10 * max(cosines[0] - nearest_other, 0.0)),
            float(agree.all() and not lacking),
            float(votes[agree].sum() / all_votes - 0.5),
            self._track_record(answers[0]),
        )
        return CandidateFeatures(answers[0], values)

    def probability(self, features: CandidateFeatures) -> float:
        """Return the probability, in (0, 1), that a candidate's answer is correct."""
        return float(logistic(self._scores([features.values]) + self._shift)[0])

    def record_lookup(self, features: CandidateFeatures) -> None:
        """Learn from a lookup how often this cache holds a correct entry."""
        self._recent.add(features.values)
        if self._recent.count <= REFRESH_LOOKUPS or not self._recent.count % REFRESH_LOOKUPS:
            self._update_error_curve()

    def min_probability(self, max_error_rate: float) -> float:
        """Return the lowest probability to serve at.

        At most a share ``max_error_rate``, in (0, 1), of what is served is expected to be wrong.
        """
        falling, error_rates = self._error_curve
        warmth = len(self._labels) / (len(self._labels) + WARM_OBSERVATIONS)
        target = max_error_rate * (1 + (WARM_SHARE - 1) * warmth)
        allowed = int(np.flatnonzero(np.append(0, error_rates) <= target)[-1])
        upper, lower = np.concatenate([[1], falling, [0]])[allowed : allowed + 2]
        # Between two observations, the curve gives the probability that keeps the rate.
        likely = 1 - target / self._excess
        return max(MIN_PROBABILITY, float(min(upper, max(likely, np.nextafter(lower, 1)))))

    def shadow_rate(self) -> float:
        """Return the share of hits to check with a shadow request."""
        checked = float(self._labels[:, 1].sum())
        return max(MIN_SHADOW_RATE, FULL_SHADOW_HITS / (FULL_SHADOW_HITS + checked))

    def error_counts(self) -> tuple[int, int]:
        """Return how many checked hits were wrong, and how many hits were checked."""
        served = self._labels[self._labels[:, 1] > 0]
        return int((1 - served[:, 0]).sum()), len(served)

    def add(self, observations: Sequence[Observation]) -> None:
        """Learn from observations. Those with another number of features are ignored."""
        usable = [one for one in observations if len(one.features.values) == OBSERVED]
        if not usable:
            return
        labels = [self._label(observation) for observation in usable]
        for old in list(self._same_as)[:-MAX_OBSERVATIONS]:
            del self._same_as[old]
        rows = [observation.features.values for observation in usable]
        self._rows = np.concatenate([self._rows, rows])[-MAX_OBSERVATIONS:]
        self._labels = np.concatenate([self._labels, labels])[-MAX_OBSERVATIONS:]
        self._model.fit(design(self._rows), self._labels[:, 0])
        self._count_outcomes()
        self._update_error_curve()

    def _label(self, observation: Observation) -> tuple[float, ...]:
        answer, found = observation.features.answer_id, observation.found_answer_id
        answer = self._canonical(answer)
        if observation.correct and found and self._canonical(found) != answer:
            self._same_as[self._canonical(found)] = answer
        index = self._answer_index.setdefault(answer, len(self._answer_index))
        flags = float(observation.correct), float(observation.served)
        return (*flags, observation.weight, observation.probability, float(index))

    def _count_outcomes(self) -> None:
        """Count how often each answer was correct, and how often that was expected."""
        correct, _, _, likely, index = self._labels.T
        if len(self._answer_index) > 2 * MAX_OBSERVATIONS:  # drop answers without observations
            remaining, order = np.unique(index, return_inverse=True)
            answers = list(self._answer_index)
            self._answer_index = {answers[int(old)]: new for new, old in enumerate(remaining)}
            self._labels[:, 4] = index = order.astype(float)
        indices: Any = index.astype(int)
        sums: list[NDArray[Any]] = [
            np.bincount(indices, part, len(self._answer_index))
            for part in (1 - correct, correct, 1 - likely, likely)
        ]
        self._outcomes = np.array(sums, float).reshape(2, 2, -1)

    def _track_record(self, answer: str) -> float:
        """Return the log odds by which an answer does better than expected."""
        index = self._answer_index.get(answer)
        if index is None:
            return 0.0
        counted, expected = self._outcomes[:, :, index] + PRIOR_OUTCOMES
        wrong, correct = np.log(counted / expected)
        return float(correct - wrong)

    def _update_error_curve(self) -> None:
        """Estimate the share of wrong hits at every bound.

        It combines the model's own estimate, over the prior's scores, the latest lookups and the
        observations, with the counts. If recently more hits were wrong than expected, the estimate
        grows in that proportion.
        """
        correct, served, weight, before, _ = self._labels.T
        assumed, lookups = self._prior.scores, self._scores(self._recent.rows())
        shift = base_rate_shift(lookups, self._prior.base_rate)
        self._shift = shift / (1 + len(correct) / BASE_RATE_OBSERVATIONS)
        scores = np.concatenate([self._scores(self._rows), lookups, assumed])
        likely = logistic(scores + self._shift)
        order = np.argsort(-likely, kind="stable")
        ones = np.ones(len(lookups))
        lookup_mass = np.concatenate(
            [weight, ones, np.full(len(assumed), PRIOR_LOOKUPS / len(assumed))]
        )[order]
        unknown = np.zeros(len(scores) - len(correct))
        mass, counted = (
            np.cumsum(np.concatenate([known, unknown])[order])
            for known in (weight, weight * (1 - correct))
        )
        expected = np.cumsum(lookup_mass * (1 - likely[order])) / np.cumsum(lookup_mass)
        recent: Array = served * 0.5 ** ((served.sum() - np.cumsum(served)) / HALF_LIFE)
        wrong, expected_wrong = recent @ (1 - correct), recent @ (1 - before)
        self._excess = max(1.0, float((PRIOR_ERRORS + wrong) / (PRIOR_ERRORS + expected_wrong)))
        rates = self._excess * (CURVE_WEIGHT * expected + counted) / (CURVE_WEIGHT + mass)
        self._error_curve = np.array([likely[order], rates])

    def _scores(self, rows: Sequence[Sequence[float]] | Array) -> Array:
        """Return the model's log odds of observed features."""
        scores: Array = design(rows) @ self._model.weights
        return scores

    def _canonical(self, answer: str) -> str:
        while answer in self._same_as:
            answer = self._same_as[answer]
        return answer
