"""Intervals of shares, and quantiles of counts in buckets."""

import math
from collections.abc import Iterable

# Seconds that a lookup takes at most, by buckets; the last has no end.
BUCKETS = [0.00025 * 2**step for step in range(15)]
_Z = 1.96


def quantile(counts: Iterable[float], share: float) -> float:
    """Return about below how many seconds a share of lookups lies, by their counts in BUCKETS.

    Within a bucket they are taken to lie evenly; of none it is 0, beyond the last its beginning.
    """
    numbers = list(counts)
    left = share * sum(numbers)
    for place, count in enumerate(numbers):
        if count and left <= count:
            low = BUCKETS[place - 1] if place else 0.0
            return low + (BUCKETS[place] - low) * left / count if place < len(BUCKETS) else low
        left -= count
    return 0.0


def wilson(part: float, whole: float) -> tuple[float, float, float]:
    """Return a share and its 95 % interval (E. B. Wilson, 1927); of nothing it is 0, 0 to 1."""
    if not whole:
        return 0.0, 0.0, 1.0
    share, square = part / whole, _Z**2 / whole
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / whole + square / whole / 4) / (1 + square)
    return share, max(0.0, middle - half), min(1.0, middle + half)
