import random

import pytest

from services.gateway.cache.statistics import (
    LATENCY_BUCKETS,
    histogram_quantile,
    wilson_interval,
)


def test_a_quantile_lies_in_its_bucket() -> None:
    counts = [0.0] * (len(LATENCY_BUCKETS) + 1)
    assert histogram_quantile(counts, 0.5) == 0
    counts[3] = 10
    assert LATENCY_BUCKETS[2] < histogram_quantile(counts, 0.5) <= LATENCY_BUCKETS[3]
    assert histogram_quantile(counts, 1) == LATENCY_BUCKETS[3]
    counts[-1] = 90  # slower than every bound
    assert histogram_quantile(counts, 0.5) == LATENCY_BUCKETS[-1]


def test_quantiles_are_near_those_of_the_values() -> None:
    rng = random.Random(0)
    values = [rng.lognormvariate(-6, 1) for _ in range(2_000)]
    counts = [0.0] * (len(LATENCY_BUCKETS) + 1)
    for value in values:
        counts[sum(value > bound for bound in LATENCY_BUCKETS)] += 1
    for share in (0.1, 0.5, 0.99):
        true = sorted(values)[int(share * len(values)) - 1]
        assert true / 2 < histogram_quantile(counts, share) < true * 2


def test_wilsons_interval() -> None:
    assert wilson_interval(0, 0) == (0, 0, 1)
    assert wilson_interval(10, 40) == pytest.approx((0.25, 0.1419, 0.4019), abs=1e-4)
    none, every = wilson_interval(0, 10), wilson_interval(10, 10)
    assert (none.value, none.low, every.value, every.high) == pytest.approx((0, 0, 1, 1))
    assert 0 < none.high < 0.3 < every.low < 1
