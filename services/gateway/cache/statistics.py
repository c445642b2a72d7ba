"""Confidence intervals of proportions, and quantiles of latency histograms."""

import math
from collections.abc import Iterable
from typing import NamedTuple

# Upper bounds of the latency buckets, in seconds. One more bucket counts slower lookups.
LATENCY_BUCKETS: list[float] = [0.00025 * 2**step for step in range(15)]
_Z = 1.96  # standard deviations of a 95 % interval


class Proportion(NamedTuple):
    """A proportion and its 95 % confidence interval."""

    value: float
    low: float
    high: float


def histogram_quantile(counts: Iterable[float], share: float) -> float:
    """Estimate the latency in seconds below which a share of lookups lies.

    Args:
        counts: lookups in each bucket of LATENCY_BUCKETS, and the slower ones.
        share: the quantile, in [0, 1].

    The estimate interpolates linearly within a bucket. It is 0 without lookups. A quantile in the
    last bucket returns the highest bound.
    """
    numbers = list(counts)
    rank = share * sum(numbers)
    for index, count in enumerate(numbers):
        if count and rank <= count:
            low = LATENCY_BUCKETS[index - 1] if index else 0.0
            if index == len(LATENCY_BUCKETS):
                return low
            return low + (LATENCY_BUCKETS[index] - low) * rank / count
        rank -= count
    return 0.0


def wilson_interval(part: float, whole: float) -> Proportion:
    """Return a proportion and its score interval (E. B. Wilson, 1927); 0 of 0 is 0, from 0 to 1."""
    if not whole:
        return Proportion(0.0, 0.0, 1.0)
    share, square = part / whole, _Z**2 / whole
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / whole + square / whole / 4) / (1 + square)
    return Proportion(share, max(0.0, middle - half), min(1.0, middle + half))
