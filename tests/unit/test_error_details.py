import asyncio
import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from services import error_details
from services.errors import (
    KINDS,
    DeadlineExceeded,
    Failure,
    InvalidArgument,
    NotFound,
    Overloaded,
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_survives_the_wire(kind: type[InvalidArgument]) -> None:
    failure = kind("REASON", "What to do.", field="inputs[3]", retry_after=1.5, size=7)
    back = error_details._from_status(error_details.to_status(failure))
    assert type(back) is kind
    assert vars(back) == vars(failure)


@pytest.mark.parametrize("kind", [Failure, *KINDS])
def test_a_failure_survives_json(kind: type[Failure]) -> None:
    failure = kind("REASON", "What to do.", field="inputs[3]", retry_after=1.5, size=7)
    failure.metadata |= {"field": "a name of the constructor's", "long": "x" * 1000}
    back = error_details.from_dict(json.loads(json.dumps(error_details.to_dict(failure))))
    assert type(back) is kind
    assert vars(back) == vars(failure)


def test_an_older_replica_may_leave_parts_out() -> None:
    data = {"code": "NOT_FOUND", "reason": "GONE", "message": "It is gone."}
    back = error_details.from_dict(data)
    assert vars(back) == vars(NotFound("GONE", "It is gone."))
    assert type(error_details.from_dict(data | {"code": "A_LATER_CODE"})) is Failure


def test_the_retry_hint_is_a_trailer_too() -> None:
    trailers = dict(error_details.trailers(Overloaded("FULL", "Wait.", retry_after=0.25)))
    assert trailers["grpc-retry-pushback-ms"] == "250"


def test_details_are_left_out_where_they_do_not_apply() -> None:
    details = error_details.to_status(InvalidArgument("R", "M")).details
    assert len(details) == 1
    assert details[0].Is(error_details_pb2.ErrorInfo.DESCRIPTOR)


@pytest.mark.parametrize("limit", ["receive", "send"])
async def test_a_message_over_a_limit_of_grpc_is_not_worth_a_retry(limit: str) -> None:
    """A real server and channel, since the text of the error is gRPC's own."""

    async def answer(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handlers: Any = {"Echo": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [(f"grpc.max_{limit}_message_length", 100)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        echo: Any = channel.unary_unary("/test/Echo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(bytes(1000))
    await server.stop(None)
    failure = error_details.from_rpc(caught.value, "embedder")
    assert type(failure) is InvalidArgument
    assert (failure.reason, failure.metadata) == ("MESSAGE_TOO_LARGE", {"peer": "embedder"})


async def test_a_call_that_runs_out_of_time_has_exceeded_its_deadline() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return request

    server = grpc.aio.server()
    handlers: Any = {"Echo": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo: Any = channel.unary_unary("/test/Echo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(b"", timeout=0.01)
    await server.stop(None)
    failure = error_details.from_rpc(caught.value, "embedder")
    assert type(failure) is DeadlineExceeded
    assert (failure.reason, failure.metadata) == ("DEADLINE_EXCEEDED", {"peer": "embedder"})


def test_other_errors_without_details_are_worth_a_retry() -> None:
    none = grpc.aio.Metadata()
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    error = grpc.aio.AioRpcError(code, none, none, "A proxy is busy.")
    assert error_details.from_rpc(error, "embedder").reason == "NEIGHBOUR_UNAVAILABLE"
