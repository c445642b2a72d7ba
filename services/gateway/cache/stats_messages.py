"""Writes the cache's counters as the statistics of CacheService."""

from collections.abc import Sequence

from memetwin.gateway.v1 import cache_pb2
from services.gateway.cache.messages import DECISION_KINDS, proportion_to_message
from services.gateway.cache.statistics import (
    LATENCY_BUCKETS,
    histogram_quantile,
    wilson_interval,
)
from services.gateway.cache.usage import KINDS

Counts = dict[str, float]


def stats_response(
    counts: Counts, history: Sequence[tuple[float, Counts]] = ()
) -> cache_pb2.GetStatsResponse:
    """Write counters, and those of each slot of ``history``."""

    def number(name: str) -> int:
        return round(counts.get(name, 0))

    hits, judged = number("exact") + number("semantic"), number("right") + number("wrong")
    checked_wrong, checked = number("checked_wrong"), number("checked")
    return cache_pb2.GetStatsResponse(
        exact=number("exact"),
        semantic=number("semantic"),
        misses=number("miss"),
        bypasses=number("bypass"),
        curated=number("curated"),
        hit_ratio=proportion_to_message(wilson_interval(hits, hits + number("miss"))),
        wrong_ratio=proportion_to_message(wilson_interval(number("wrong"), judged)),
        tenant_wrong_ratio=proportion_to_message(wilson_interval(checked_wrong, checked)),
        expected_wrong=counts.get("expected_wrong", 0.0),
        saved=_saved_usage(counts),
        saved_money=counts.get("money", 0.0),
        latencies=_latencies(counts, buckets=True),
        history=[_stats_point(start, one) for start, one in history if one],
    )


def _stats_point(start: float, counts: Counts) -> cache_pb2.StatsPoint:
    return cache_pb2.StatsPoint(
        start=start,
        exact=round(counts.get("exact", 0)),
        semantic=round(counts.get("semantic", 0)),
        misses=round(counts.get("miss", 0)),
        bypasses=round(counts.get("bypass", 0)),
        curated=round(counts.get("curated", 0)),
        right=round(counts.get("right", 0)),
        wrong=round(counts.get("wrong", 0)),
        saved=_saved_usage(counts),
        saved_money=counts.get("money", 0.0),
        latencies=_latencies(counts, buckets=False),
        expected_wrong=counts.get("expected_wrong", 0.0),
    )


def _saved_usage(counts: Counts) -> cache_pb2.Usage:
    return cache_pb2.Usage(
        prompt_tokens=round(counts.get("prompt_tokens", 0)),
        completion_tokens=round(counts.get("completion_tokens", 0)),
        seconds=counts.get("seconds", 0.0),
    )


def _latencies(counts: Counts, *, buckets: bool) -> list[cache_pb2.Latency]:
    """Write the latency of every kind that occurred, with its histogram if requested."""
    latencies = []
    for kind in (kind for kind in KINDS if round(counts.get(kind, 0))):
        histogram = [
            counts.get(f"took:{kind}:{bucket}", 0.0) for bucket in range(len(LATENCY_BUCKETS) + 1)
        ]
        latency = cache_pb2.Latency(
            kind=DECISION_KINDS[kind],
            p50=histogram_quantile(histogram, 0.5),
            p99=histogram_quantile(histogram, 0.99),
        )
        if buckets:
            latency.buckets.extend(
                cache_pb2.LatencyBucket(most=bound, upper_bound=bound, count=round(count))
                for bound, count in zip([*LATENCY_BUCKETS, float("inf")], histogram, strict=True)
            )
        latencies.append(latency)
    return latencies
