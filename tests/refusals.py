"""Reads the failures of refused gRPC calls."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def refusal(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str, float | None]:
    """Make a call that must fail; return the code, the reason and the retry delay in seconds."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    return read_refusal(caught.value)


@contextlib.contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[None]:
    """Expect the block to fail with a code and a reason."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert read_refusal(caught.value)[:2] == (code, reason)


def read_refusal(error: Any) -> tuple[grpc.StatusCode, str, float | None]:
    """Return the code, the reason and the retry delay in seconds of a failed call."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error.code()} {error.details()}"
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    hint = None
    for detail in status.details:
        if detail.Unpack(retry):
            hint = retry.retry_delay.ToMilliseconds() / 1000
        detail.Unpack(info)
    assert info.domain == "memetwin"
    return error.code(), info.reason, hint
