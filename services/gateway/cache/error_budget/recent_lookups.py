"""The latest lookups of a cache, whose outcomes are mostly unknown.

Even without outcomes they tell how often the cache holds a correct entry: in a cache of frequent
questions most scores are high, and in one of questions that are asked once most are low. The share
is estimated by expectation maximisation (Saerens, Latinne and Decaestecker, "Adjusting the outputs
of a classifier to new a priori probabilities", Neural Computation 14, 2002).
"""

from collections import OrderedDict

import numpy as np

from services.gateway.cache.error_budget.logistic import Array, logistic
from services.gateway.cache.error_budget.prior import OBSERVED

MAX_LOOKUPS = 512
PRIOR_LOOKUPS = 30.0  # how many lookups the prior's share counts for
# In log odds. A cache that seems to hold every answer may only hold questions that are hard to tell
# apart, so the shift rises less than it falls.
MAX_FALL, MAX_RISE = 2.0, 1.0
_STEPS = 20


class RecentLookups:
    """Holds the features of at most MAX_LOOKUPS different lookups."""

    def __init__(self) -> None:
        self._features: OrderedDict[tuple[float, ...], None] = OrderedDict()
        self.count = 0  # of all lookups

    def add(self, features: tuple[float, ...]) -> None:
        """Add a lookup. One that is repeated counts once, so that one caller cannot loosen all."""
        self.count += 1
        self._features[features] = None
        self._features.move_to_end(features)
        if len(self._features) > MAX_LOOKUPS:
            self._features.popitem(last=False)

    def rows(self) -> Array:
        """Return the features, [n, OBSERVED]."""
        return np.array(list(self._features), float).reshape(-1, OBSERVED)


def base_rate_shift(scores: Array, base_rate: float) -> float:
    """Return by how much the log odds of lookups exceed those of the prior.

    Args:
        scores: the lookups' log odds under the prior.
        base_rate: the share of correct candidates that the prior assumes.
    """
    shift, prior = 0.0, np.log(base_rate / (1 - base_rate))
    for _ in range(_STEPS):
        correct = PRIOR_LOOKUPS * base_rate + logistic(scores + shift).sum()
        share = correct / (PRIOR_LOOKUPS + len(scores))
        shift = float(np.clip(np.log(share / (1 - share)) - prior, -MAX_FALL, MAX_RISE))
    return shift
