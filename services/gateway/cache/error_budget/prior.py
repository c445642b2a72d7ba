"""What an error budget assumes before a tenant's first observation.

The prior was fitted to caches of several domains; its card is ``weights/README.md``.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.gateway.cache.error_budget.logistic import Array

WEIGHTS = Path(__file__).parent / "weights" / "prior.json"
# An observation has the first FEATURES; the record of its answer is the last of them. The rest is
# derived from them.
FEATURES = (
    "one",
    "verifier",
    "cosine",
    "margin",
    "same_answers",
    "votes",
    "record",
    "verifier_below_zero",
)
OBSERVED = 7
MAX_LOG_ODDS = 6.0  # of the verifier


def design(rows: Sequence[Sequence[float]] | Array) -> Array:
    """Return the model's input, [n, FEATURES], from observed features, [n, OBSERVED]."""
    observed = np.asarray(rows, float).reshape(-1, OBSERVED).copy()
    observed[:, 1] = np.clip(observed[:, 1], -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return np.column_stack([observed, np.minimum(observed[:, 1], 0)])


@dataclass(frozen=True)
class Prior:
    """The assumptions about a cache.

    Attributes:
        weights: of the logistic model, [FEATURES].
        base_rate: the share of lookups whose candidate is correct.
        scores: quantiles of the model's log odds, from low to high, in equal steps of their rank.
    """

    weights: Array
    base_rate: float
    scores: Array

    @classmethod
    @functools.cache
    def load(cls, path: Path = WEIGHTS) -> "Prior":
        """Read a fitted prior."""
        data = json.loads(path.read_text())
        weights = np.array([data["weights"][name] for name in FEATURES], float)
        return cls(weights, float(data["base_rate"]), np.array(data["scores"], float))
