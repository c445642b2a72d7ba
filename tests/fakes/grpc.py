"""A gRPC channel without a network: a function answers the calls."""

from collections.abc import Callable
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

Answer = Callable[[str, Any], Any]


class FakeChannel:
    """Passes unary calls to ``answer`` with the method's name; records requests and timeouts."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Any] = []
        self.timeouts: list[float | None] = []

    def unary_unary(self, method: str, *serializers: Any, **options: Any) -> Any:
        async def call(request: Any, **options: Any) -> Any:
            self.requests.append(request)
            self.timeouts.append(options.get("timeout"))
            return self.answer(method.rpartition("/")[2], request)

        return call

    def _streaming(self, method: str, *serializers: Any, **options: Any) -> Any:
        return None

    unary_stream = stream_unary = stream_stream = _streaming


def rpc_error(code: grpc.StatusCode, reason: str = "") -> grpc.aio.AioRpcError:
    """An error of a call. If it has a reason, it has details like the errors of our services."""
    empty = grpc.aio.Metadata()
    if not reason:
        return grpc.aio.AioRpcError(code, empty, empty, "no details")
    status = status_pb2.Status(code=code.value[0], message="The message.")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="memetwin"))
    trailers = grpc.aio.Metadata(*rpc_status.to_status(status).trailing_metadata)
    return grpc.aio.AioRpcError(code, empty, trailers, status.message)
