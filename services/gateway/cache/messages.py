"""Translates between the gateway's messages and its core's plain data."""

import functools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from memetwin.gateway.v1 import cache_pb2, chat_pb2
from services.errors import InvalidArgument
from services.gateway.auth import current_max_error_rate, current_tenant
from services.gateway.cache.calibration import Calibrated
from services.gateway.cache.statistics import BUCKETS, quantile, wilson
from services.gateway.cache.types import Bound, Context, Decision, Entry, Purge, Purged, Scope
from services.gateway.cache.usage import KINDS

_MODES = {
    cache_pb2.LOOKUP_MODE_UNSPECIFIED: "exact_then_semantic",
    cache_pb2.LOOKUP_MODE_EXACT: "exact",
    cache_pb2.LOOKUP_MODE_SEMANTIC: "semantic",
    cache_pb2.LOOKUP_MODE_EXACT_THEN_SEMANTIC: "exact_then_semantic",
}
# Contexts up to this size are remembered, so that few fingerprints are computed.
_REMEMBERED_BYTES = 4096
_KINDS = {
    "miss": cache_pb2.DECISION_KIND_MISS,
    "exact": cache_pb2.DECISION_KIND_EXACT,
    "semantic": cache_pb2.DECISION_KIND_SEMANTIC,
    "bypass": cache_pb2.DECISION_KIND_BYPASS,
}


def mode(number: int) -> str:
    """Return a lookup mode's name. Raises InvalidArgument for a number we do not know."""
    if number not in _MODES:
        raise InvalidArgument("UNKNOWN_MODE", "There is no such mode.", field="mode", mode=number)
    return _MODES[number]  # type: ignore[index]


def scope(message: cache_pb2.Scope) -> Scope:
    """Read a scope. Raises PermissionDenied for a tenant that is not the caller's."""
    return Scope(current_tenant(message.tenant), message.user, message.namespace)


def context(message: cache_pb2.RequestContext) -> Context:
    """Read the context of a prompt."""
    if message.ByteSize() > _REMEMBERED_BYTES:
        return _context(message)
    return _remembered(message.SerializeToString(deterministic=True))


@functools.lru_cache(1024)
def _remembered(data: bytes) -> Context:
    """Read a context, or return the one that was read: its fingerprint is known then."""
    return _context(cache_pb2.RequestContext.FromString(data))


def _context(message: cache_pb2.RequestContext) -> Context:
    return Context(
        model=message.model,
        parameters=dict(message.parameters),
        system_prompt=message.system_prompt,
        tools=list(message.tools),
        response_format=message.response_format,
        history=history(message.history),
    )


def history(messages: Iterable[cache_pb2.Message]) -> list[tuple[str, str]]:
    """Read a conversation as pairs of role and content."""
    return [(message.role, message.content) for message in messages]


def bound(request: cache_pb2.LookupEntryRequest | chat_pb2.ChatCache) -> Bound:
    """Read how sure a semantic hit must be. Raises InvalidArgument if that is out of range."""
    if request.HasField("min_similarity"):
        return Bound(min_similarity=least_cosine(request.min_similarity))
    if request.HasField("max_error_rate"):
        if not 0 < request.max_error_rate < 1:
            raise InvalidArgument(
                "BAD_ERROR_RATE", "max_error_rate lies in (0, 1).", field="max_error_rate"
            )
        return Bound(max_error_rate=request.max_error_rate)
    return Bound(max_error_rate=current_max_error_rate())


def least_cosine(value: float) -> float:
    """Return a least cosine. Raises InvalidArgument if it is out of range."""
    if not -1 <= value <= 1:
        raise InvalidArgument(
            "BAD_SIMILARITY", "min_similarity lies in [-1, 1].", field="min_similarity"
        )
    return value


def vector(data: bytes) -> NDArray[np.float32]:
    """Read little-endian float32. Raises InvalidArgument if it is none, or not finite."""
    if len(data) % 4 or not np.isfinite(numbers := np.frombuffer(data, "<f4")).all():
        raise InvalidArgument(
            "BAD_VECTOR", "A vector is finite little-endian float32.", field="vector"
        )
    return numbers


def entry(value: Entry) -> cache_pb2.Entry:
    """Write an entry."""
    message = cache_pb2.Entry()
    _fill(message, value)
    return message


def _fill(message: cache_pb2.Entry, value: Entry) -> None:
    """Write an entry where it is to be: a message in a message would be copied."""
    message.id = value.id
    message.prompt = value.prompt
    message.response = value.response
    scope = message.scope
    scope.tenant, scope.user = value.scope.tenant, value.scope.user
    scope.namespace = value.scope.namespace
    message.context_fingerprint = value.fingerprint
    message.cites.extend(value.cites)
    for name, tokens in value.usage.items():
        setattr(message.usage, name, tokens)
    message.usage.seconds = value.seconds
    message.created_at = value.created_at
    message.ttl = value.ttl


def decided(value: Decision) -> cache_pb2.LookupEntryResponse:
    """Write a decision as the reply to a lookup."""
    message = cache_pb2.LookupEntryResponse()
    _decide(message.decision, value)
    return message


def decision(value: Decision) -> cache_pb2.Decision:
    """Write a decision."""
    message = cache_pb2.Decision()
    _decide(message, value)
    return message


def _decide(message: cache_pb2.Decision, value: Decision) -> None:
    message.kind = _KINDS[value.kind]
    message.similarity = value.similarity
    if value.probability is not None:
        message.probability_correct = value.probability
    message.differing_parts.extend(value.differing)
    if value.entry:
        _fill(message.entry, value.entry)
        message.age = value.entry.age
    elif value.miss_reason:
        message.miss_reason = cache_pb2.MissReason.Value(f"MISS_REASON_{value.miss_reason.upper()}")


def purge(request: cache_pb2.PurgeEntriesRequest) -> Purge:
    """Read which entries to delete."""
    wanted = request.filter
    return Purge(
        cites=frozenset(wanted.cites),
        older_than=wanted.older_than if wanted.HasField("older_than") else None,
        fingerprint=wanted.context_fingerprint,
        prompt_contains=wanted.prompt_contains,
        force=request.force,
        everything=request.all,
    )


def purged(value: Purged) -> cache_pb2.Purge:
    """Write a purge that was made."""
    return cache_pb2.Purge(
        time=value.time,
        key=value.key,
        filter=cache_pb2.PurgeFilter(**value.filter),
        count=value.count,
    )


def calibrated(found: Calibrated) -> cache_pb2.CalibratedBound:
    """Write a calibrated bound."""
    return cache_pb2.CalibratedBound(
        bound=found.bound,
        precision=proportion(found.precision),
        recall=proportion(found.recall),
        curve=[
            cache_pb2.CurvePoint(bound=bound, precision=precision, hit_ratio=hits)
            for bound, precision, hits in found.curve
        ],
    )


def proportion(share: tuple[float, float, float]) -> cache_pb2.Proportion:
    """Write a share and its interval."""
    value, low, high = share
    return cache_pb2.Proportion(value=value, low=low, high=high)


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
            cache_pb2.LatencyBucket(most=bound, upper_bound=bound, count=round(count))
            for bound, count in zip([*BUCKETS, float("inf")], took, strict=True)
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
