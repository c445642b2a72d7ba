"""Converts failures to google.rpc.Status and to JSON data, and both back.

The details follow AIP-193 (https://google.aip.dev/193): always ErrorInfo, BadRequest for a failure
that names a field, RetryInfo for one after which the same call may succeed.
"""

from collections.abc import Mapping
from typing import Any, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.errors import (
    DOMAIN,
    KINDS,
    DeadlineExceeded,
    Failure,
    InvalidArgument,
    Unavailable,
)

_KINDS_BY_CODE = {kind.code: kind for kind in KINDS}
_KINDS_BY_NAME = {kind.code.name: kind for kind in KINDS}
PUSHBACK = "grpc-retry-pushback-ms"
# gRPC's own message for a message over a channel's limit, sent with RESOURCE_EXHAUSTED. A retry
# would send the same message, so it cannot help.
_TOO_LARGE = "message larger than max"


def to_status(failure: Failure) -> status_pb2.Status:
    """Return the failure as google.rpc.Status with its details."""
    status = status_pb2.Status(code=failure.code.value[0], message=failure.message)
    info = error_details_pb2.ErrorInfo(
        reason=failure.reason, domain=DOMAIN, metadata=failure.metadata
    )
    status.details.add().Pack(info)
    if failure.field:
        bad_request = error_details_pb2.BadRequest()
        bad_request.field_violations.add(field=failure.field, description=failure.message)
        status.details.add().Pack(bad_request)
    if failure.retry_after is not None:
        delay = Duration(nanos=0)
        delay.FromMilliseconds(round(failure.retry_after * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def to_dict(failure: Failure) -> dict[str, Any]:
    """Return the failure as JSON data, for Redis, where other replicas read it."""
    return {
        "code": failure.code.name,
        "reason": failure.reason,
        "message": failure.message,
        "field": failure.field,
        "retry_after": failure.retry_after,
        "metadata": failure.metadata,
    }


def from_dict(data: Mapping[str, Any]) -> Failure:
    """Return the failure that ``to_dict`` has converted to JSON data."""
    return _failure(
        _KINDS_BY_NAME.get(data["code"], Failure),
        data["reason"],
        data["message"],
        field=data.get("field", ""),
        retry_after=data.get("retry_after"),
        metadata=data.get("metadata", {}),
    )


def trailers(failure: Failure) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that carries the failure's details and its retry hint."""
    details = rpc_status.to_status(to_status(failure)).trailing_metadata
    if failure.retry_after is None:
        return tuple(details)
    return (*details, (PUSHBACK, str(round(failure.retry_after * 1000))))


def from_rpc(error: grpc.aio.AioRpcError, peer: str) -> Failure:
    """Return the failure that a call of another service has raised.

    Args:
        error: the error of the call.
        peer: the name of the service. An error without our details, such as a refused connection or
            a proxy's error, becomes UNAVAILABLE with this name in its metadata. If a message was
            too large, it becomes INVALID_ARGUMENT. If the call ran out of time, it becomes
            DEADLINE_EXCEEDED.
    """
    status = rpc_status.from_call(cast(grpc.Call, error))
    if status is None and _TOO_LARGE in (error.details() or ""):
        return InvalidArgument(
            "MESSAGE_TOO_LARGE",
            f"A message of the {peer} service is too large. Send less in one call.",
            peer=peer,
        )
    if status is None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(
            "DEADLINE_EXCEEDED",
            f"The deadline of the call has passed, and the {peer} service has not answered.",
            peer=peer,
        )
    if status is None or error.code() not in _KINDS_BY_CODE:
        return Unavailable(
            "NEIGHBOUR_UNAVAILABLE",
            f"The {peer} service does not answer. Try again.",
            retry_after=1.0,
            peer=peer,
        )
    return _from_status(status)


def _from_status(status: status_pb2.Status) -> Failure:
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        for message in (info, bad_request, retry):
            detail.Unpack(message)
    return _failure(
        _KINDS_BY_CODE[_CODES[status.code]],
        info.reason or code_pb2.Code.Name(status.code),
        status.message,
        field=bad_request.field_violations[0].field if bad_request.field_violations else "",
        retry_after=retry.retry_delay.ToMilliseconds() / 1000
        if retry.HasField("retry_delay")
        else None,
        metadata=info.metadata,
    )


def _failure(
    kind: type[Failure], reason: str, message: str, *, metadata: Mapping[str, str], **details: Any
) -> Failure:
    failure = kind(reason, message, **details)
    # The constructor would truncate the values, and cannot take names of its own parameters.
    failure.metadata = dict(metadata)
    return failure


_CODES = {code.value[0]: code for code in grpc.StatusCode}
