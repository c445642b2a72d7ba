"""Translates between the gateway's messages and its core's plain data."""

import dataclasses
import functools
import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from memetwin.gateway.v1 import cache_pb2, chat_pb2, twin_pb2
from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.gateway.auth import max_error_rate, tenant
from services.gateway.backends import types
from services.gateway.cache.calibration import Calibrated
from services.gateway.cache.types import Bound, Context, Decision, Entry, Purge, Purged, Scope
from services.gateway.chat import completions
from services.gateway.chat.cache_key import Controls
from services.gateway.twins.service import Twin

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
_METRICS = {number: name for name, number in types.METRICS.items()} | {
    search_pb2.METRIC_UNSPECIFIED: "cosine"
}


def metric(number: int) -> str:
    """Return a metric's name. Raises InvalidArgument for a number we do not know."""
    if number not in _METRICS:
        raise InvalidArgument(
            "UNKNOWN_METRIC", "metric is COSINE, IP or L2.", field="metric", metric=number
        )
    return _METRICS[number]  # type: ignore[index]


def mode(number: int) -> str:
    """Return a lookup mode's name. Raises InvalidArgument for a number we do not know."""
    if number not in _MODES:
        raise InvalidArgument("UNKNOWN_MODE", "There is no such mode.", field="mode", mode=number)
    return _MODES[number]  # type: ignore[index]


def scope(message: cache_pb2.Scope) -> Scope:
    """Read a scope. Raises PermissionDenied for a tenant that is not the caller's."""
    return Scope(tenant(message.tenant), message.user, message.namespace)


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
    return Bound(max_error_rate=max_error_rate())


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


def chat(message: chat_pb2.Chat) -> tuple[completions.Json, Controls]:
    """Read a conversation as an OpenAI request, and what is wanted of the cache.

    Raises:
        InvalidArgument: ``further`` is no JSON object, or a bound is out of range.
    """
    try:
        body = json.loads(message.further or "{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise InvalidArgument("BAD_JSON", "further is no JSON object.", field="further")
    if message.messages:
        body["messages"] = [{"role": one.role, "content": one.content} for one in message.messages]
    if message.model:
        body["model"] = message.model
    for name in ("temperature", "max_tokens"):
        if message.HasField(name):
            body[name] = getattr(message, name)
    asked = message.cache
    limits = bound(asked)
    if asked.HasField("max_age"):
        limits = dataclasses.replace(limits, max_age=asked.max_age)
    return body, Controls(scope(message.scope), limits, asked.no_cache, asked.no_store)


def completion(reply: completions.Json, made: Decision) -> chat_pb2.CompleteResponse:
    """Write a reply and what the cache did; {} stands for a reply that was not recorded."""
    return chat_pb2.CompleteResponse(
        message=cache_pb2.Message(role="assistant", content=completions.text(reply))
        if reply
        else None,
        finish_reason=completions.finish(reply),
        model=str(reply.get("model") or ""),
        usage=cache_pb2.Usage(**completions.usage(reply)),
        decision=decision(made),
        completion=json.dumps(reply, ensure_ascii=False) if reply else "",
    )


def part(chunk: completions.Json) -> chat_pb2.StreamCompleteResponse:
    """Write a chunk: as text if it is no more."""
    if completions.is_plain(chunk):
        return chat_pb2.StreamCompleteResponse(delta=completions.piece(chunk))
    return chat_pb2.StreamCompleteResponse(chunk=json.dumps(chunk, ensure_ascii=False))


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


def twin(value: Twin) -> twin_pb2.Twin:
    """Write a twin."""
    return twin_pb2.Twin(
        id=value.id,
        title=value.title,
        similarity=value.similarity,
        distance=value.distance,
        tags=value.tags,
        media_type=value.media_type,
        digest=value.digest,
    )
