"""What the cache did, as its owner reads it: counters to shares, quantiles and curves."""

from collections.abc import Sequence

from memetwin.gateway.v1 import cache_pb2
from services.gateway.cache.messages import proportion
from services.gateway.cache.usage import BUCKETS, KINDS, quantile, wilson

Counts = dict[str, float]


def written(
    counts: Counts, history: Sequence[tuple[float, Counts]] = ()
) -> cache_pb2.GetStatsResponse:
    """Write counters, and those of each five minutes."""

    def number(name: str) -> int:
        return round(counts.get(name, 0))

    hits, judged = number("exact") + number("semantic"), number("right") + number("wrong")
    return cache_pb2.GetStatsResponse(
        exact=number("exact"),
        semantic=number("semantic"),
        misses=number("miss"),
        bypasses=number("bypass"),
        hit_ratio=proportion(wilson(hits, hits + number("miss"))),
        wrong_ratio=proportion(wilson(number("wrong"), judged)),
        tenant_wrong_ratio=proportion(wilson(number("found_wrong"), number("looked_at"))),
        expected_wrong=counts.get("expected_wrong", 0.0),
        saved=_saved(counts),
        saved_money=counts.get("money", 0.0),
        latencies=[_latency(kind, counts) for kind in KINDS if number(kind)],
        history=[_point(start, one) for start, one in history if one],
    )


def _saved(counts: Counts) -> cache_pb2.Usage:
    return cache_pb2.Usage(
        prompt_tokens=round(counts.get("prompt_tokens", 0)),
        completion_tokens=round(counts.get("completion_tokens", 0)),
        seconds=counts.get("seconds", 0.0),
    )


def _latency(kind: str, counts: Counts) -> cache_pb2.Latency:
    took = _took(kind, counts)
    return cache_pb2.Latency(
        kind=cache_pb2.DecisionKind.Value(f"DECISION_KIND_{kind.upper()}"),
        p50=quantile(took, 0.5),
        p99=quantile(took, 0.99),
        buckets=[
            cache_pb2.LatencyBucket(most=most, count=round(count))
            for most, count in zip([*BUCKETS, float("inf")], took, strict=True)
        ],
    )


def _point(start: float, counts: Counts) -> cache_pb2.StatsPoint:
    return cache_pb2.StatsPoint(
        start=start,
        exact=round(counts.get("exact", 0)),
        semantic=round(counts.get("semantic", 0)),
        misses=round(counts.get("miss", 0)),
        bypasses=round(counts.get("bypass", 0)),
        right=round(counts.get("right", 0)),
        wrong=round(counts.get("wrong", 0)),
        saved=_saved(counts),
        saved_money=counts.get("money", 0.0),
        latencies=[
            cache_pb2.Latency(
                kind=cache_pb2.DecisionKind.Value(f"DECISION_KIND_{kind.upper()}"),
                p50=quantile(_took(kind, counts), 0.5),
                p99=quantile(_took(kind, counts), 0.99),
            )
            for kind in KINDS
            if counts.get(kind)
        ],
    )


def _took(kind: str, counts: Counts) -> list[float]:
    return [counts.get(f"took:{kind}:{place}", 0.0) for place in range(len(BUCKETS) + 1)]
