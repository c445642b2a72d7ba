"""Reads CacheService's messages into plain data, and writes plain data as messages."""

import functools
from collections.abc import Iterable, Sized

import numpy as np
from numpy.typing import NDArray

from memetwin.gateway.v1 import cache_pb2, chat_pb2, rag_pb2
from services.errors import InvalidArgument
from services.gateway.auth.caller import current_max_error_rate, current_scope
from services.gateway.cache.calibration import CalibratedBound
from services.gateway.cache.curated import METADATA
from services.gateway.cache.labelled_pairs import LabelledPair
from services.gateway.cache.purging import PurgeRecord, PurgeRequest
from services.gateway.cache.statistics import Proportion
from services.gateway.cache.types import Bound, Context, Decision, Entry, NewEntry, Request, Scope

_MODES = {
    cache_pb2.LOOKUP_MODE_UNSPECIFIED: "exact_then_semantic",
    cache_pb2.LOOKUP_MODE_EXACT: "exact",
    cache_pb2.LOOKUP_MODE_SEMANTIC: "semantic",
    cache_pb2.LOOKUP_MODE_EXACT_THEN_SEMANTIC: "exact_then_semantic",
}
DECISION_KINDS = {
    "miss": cache_pb2.DECISION_KIND_MISS,
    "exact": cache_pb2.DECISION_KIND_EXACT,
    "semantic": cache_pb2.DECISION_KIND_SEMANTIC,
    "bypass": cache_pb2.DECISION_KIND_BYPASS,
}
# Contexts up to this size are memoised, which saves computing their fingerprints again.
_MEMOISED_BYTES = 4096
# Limit of each repeated field: 10,000 short messages take tens of milliseconds to read and to hash.
MAX_REPEATED = 10_000


def mode_from_number(number: int) -> str:
    """Return the name of a lookup mode.

    Raises:
        InvalidArgument: there is no such mode.
    """
    if number not in _MODES:
        raise InvalidArgument(
            "UNKNOWN_MODE",
            "mode is unknown. Send a value of LookupMode.",
            field="mode",
            mode=number,
        )
    return _MODES[number]  # type: ignore[index]


def scope_from_message(message: cache_pb2.Scope) -> Scope:
    """Read a scope.

    Raises:
        PermissionDenied: the caller is not allowed to use the scope.
    """
    return Scope(*current_scope(message.tenant, message.user, message.namespace))


def request_from_message(
    message: cache_pb2.LookupEntryRequest | cache_pb2.CreateEntryRequest,
) -> Request:
    """Read the prompt, its scope and its context.

    It also computes the context's fingerprint, because ``large_requests`` may call it in a thread.
    """
    context = context_from_message(message.context)
    _ = context.fingerprint  # which is remembered
    is_special = context.history or context.tools or context.response_format
    return Request(
        scope_from_message(message.scope),
        context,
        message.prompt,
        curated_for=None if is_special else context.model,
    )


def context_from_message(message: cache_pb2.RequestContext) -> Context:
    """Read the context of a prompt."""
    if message.ByteSize() > _MEMOISED_BYTES:
        return _read_context(message)
    return _memoised_context(message.SerializeToString(deterministic=True))


@functools.lru_cache(1024)
def _memoised_context(data: bytes) -> Context:
    return _read_context(cache_pb2.RequestContext.FromString(data))


def _read_context(message: cache_pb2.RequestContext) -> Context:
    for name in ("parameters", "tools", "history"):
        check_count(getattr(message, name), f"context.{name}")
    return Context(
        model=message.model,
        parameters=dict(message.parameters),
        system_prompt=message.system_prompt,
        tools=list(message.tools),
        response_format=message.response_format,
        history=history_from_messages(message.history),
    )


def check_count(values: Sized, field: str) -> None:
    """Raise InvalidArgument if a repeated field has more values than a request may have."""
    if len(values) > MAX_REPEATED:
        raise InvalidArgument(
            "TOO_MANY_VALUES",
            f"{field} has {len(values)} values. Send at most {MAX_REPEATED}.",
            field=field,
            count=len(values),
            limit=MAX_REPEATED,
        )


def history_from_messages(messages: Iterable[cache_pb2.Message]) -> list[tuple[str, str]]:
    """Read a conversation as pairs of role and content."""
    return [(message.role, message.content) for message in messages]


def bound_from_message(
    request: cache_pb2.LookupEntryRequest | chat_pb2.ChatCache | rag_pb2.CacheControl,
) -> Bound:
    """Read the conditions for a cached answer; without any, the API key's error rate applies.

    Raises:
        InvalidArgument: a value is out of range.
    """
    if request.HasField("min_similarity"):
        return Bound(min_similarity=validate_cosine(request.min_similarity))
    if request.HasField("max_error_rate"):
        if not 0 < request.max_error_rate < 1:
            raise InvalidArgument(
                "BAD_ERROR_RATE",
                "max_error_rate is out of range. Send a number between 0 and 1, exclusive.",
                field="max_error_rate",
            )
        return Bound(max_error_rate=request.max_error_rate)
    return Bound(max_error_rate=current_max_error_rate())


def validate_cosine(value: float) -> float:
    """Return a minimum cosine similarity.

    Raises:
        InvalidArgument: it is out of range.
    """
    if not -1 <= value <= 1:
        raise InvalidArgument(
            "BAD_SIMILARITY",
            "min_similarity is out of range. Send a number from -1 to 1.",
            field="min_similarity",
        )
    return value


def vector_from_bytes(data: bytes) -> NDArray[np.float32]:
    """Read a vector of little-endian float32.

    Raises:
        InvalidArgument: the length is not a multiple of 4, or a number is not finite.
    """
    if len(data) % 4 or not np.isfinite(numbers := np.frombuffer(data, "<f4")).all():
        raise InvalidArgument(
            "BAD_VECTOR",
            "The vector is malformed. Send finite little-endian float32 numbers.",
            field="vector",
        )
    return numbers


def new_entry_from_message(message: cache_pb2.CreateEntryRequest) -> NewEntry:
    """Read the response to store."""
    check_count(message.cites, "cites")
    usage = message.usage
    return NewEntry(
        response=message.response,
        ttl=message.ttl,
        cites=list(message.cites),
        usage={
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        },
        seconds=usage.seconds,
    )


def entry_to_message(entry: Entry) -> cache_pb2.Entry:
    """Write an entry."""
    message = cache_pb2.Entry()
    _fill_entry(message, entry)
    return message


def write_entries(entries: Iterable[Entry], next_page_token: str) -> cache_pb2.ListEntriesResponse:
    """Write a page of entries."""
    response = cache_pb2.ListEntriesResponse(next_page_token=next_page_token)
    for entry in entries:
        _fill_entry(response.entries.add(), entry)
    return response


def _fill_entry(message: cache_pb2.Entry, entry: Entry) -> None:
    """Write an entry in place: protobuf copies a message that is assigned to a field."""
    message.id = entry.id
    message.prompt = entry.prompt
    message.response = entry.response
    scope = message.scope
    scope.tenant, scope.user = entry.scope.tenant, entry.scope.user
    scope.namespace = entry.scope.namespace
    message.context_fingerprint = entry.fingerprint
    message.cites.extend(entry.cites)
    for name, tokens in entry.usage.items():
        setattr(message.usage, name, tokens)
    message.usage.seconds = entry.seconds
    message.created_at = entry.created_at
    message.ttl = entry.ttl
    if entry.is_curated:
        message.curated = True
        message.metadata.update(entry.detail[METADATA])


def lookup_response(decision: Decision) -> cache_pb2.LookupEntryResponse:
    """Write a decision as the response to a lookup."""
    message = cache_pb2.LookupEntryResponse()
    _fill_decision(message.decision, decision)
    return message


def decision_to_message(decision: Decision) -> cache_pb2.Decision:
    """Write a decision."""
    message = cache_pb2.Decision()
    _fill_decision(message, decision)
    return message


def _fill_decision(message: cache_pb2.Decision, decision: Decision) -> None:
    message.kind = DECISION_KINDS[decision.kind]
    message.similarity = decision.similarity
    if decision.probability is not None:
        message.probability_correct = decision.probability
    message.differing_parts.extend(decision.differing_parts)
    if decision.entry:
        _fill_entry(message.entry, decision.entry)
        message.age = decision.entry.age
    elif decision.miss_reason:
        name = f"MISS_REASON_{decision.miss_reason.upper()}"
        message.miss_reason = cache_pb2.MissReason.Value(name)


def purge_request_from_message(request: cache_pb2.PurgeEntriesRequest) -> PurgeRequest:
    """Read which entries to purge."""
    conditions = request.filter
    check_count(conditions.cites, "filter.cites")
    return PurgeRequest(
        cites=frozenset(conditions.cites),
        older_than=conditions.older_than if conditions.HasField("older_than") else None,
        fingerprint=conditions.context_fingerprint,
        prompt_contains=conditions.prompt_contains,
        curated=conditions.curated if conditions.HasField("curated") else None,
        force=request.force,
        everything=request.all,
    )


def purge_record_to_message(record: PurgeRecord) -> cache_pb2.Purge:
    """Write the record of a purge."""
    return cache_pb2.Purge(
        time=record.time,
        key=record.key,
        filter=cache_pb2.PurgeFilter(**record.filter),
        count=record.count,
    )


def labelled_pair_from_message(message: cache_pb2.LabelledPair) -> LabelledPair:
    """Read a labelled pair."""
    return LabelledPair(message.one, message.other, message.same)


def calibrated_bound_to_message(calibrated: CalibratedBound) -> cache_pb2.CalibratedBound:
    """Write a calibrated bound."""
    return cache_pb2.CalibratedBound(
        bound=calibrated.bound,
        precision=proportion_to_message(calibrated.precision),
        recall=proportion_to_message(calibrated.recall),
        curve=[
            cache_pb2.CurvePoint(bound=bound, precision=precision, hit_ratio=hit_ratio)
            for bound, precision, hit_ratio in calibrated.curve
        ],
    )


def proportion_to_message(proportion: Proportion) -> cache_pb2.Proportion:
    """Write a proportion and its interval."""
    return cache_pb2.Proportion(**proportion._asdict())
