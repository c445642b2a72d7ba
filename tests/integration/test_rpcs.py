"""The running stack answers every rpc of the contract, and none with UNIMPLEMENTED."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from memetwin.embedder.v1 import embedder_pb2
from memetwin.gateway.v1 import admin_pb2, cache_pb2, chat_pb2, rag_pb2, twin_pb2
from memetwin.search.v1 import search_pb2
from tests.stack import Stack

CONTRACT = (
    ("embedder", embedder_pb2),
    ("search", search_pb2),
    *(("gateway", module) for module in (admin_pb2, cache_pb2, chat_pb2, rag_pb2, twin_pb2)),
)

MISSING = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


def rpcs() -> Iterator[Any]:
    for name, module in CONTRACT:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield pytest.param(name, method, id=f"{service.full_name}/{method.name}")


@pytest.mark.parametrize(("name", "method"), list(rpcs()))
def test_an_rpc_is_implemented(stack: Stack, name: str, method: Any) -> None:
    """Send an empty request. Any answer will do, as long as the method exists."""
    channel: grpc.Channel = getattr(stack, name)
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    kind = "stream" if method.client_streaming else "unary"
    kind += "_stream" if method.server_streaming else "_unary"
    call = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    argument = iter([request()]) if method.client_streaming else request()
    assert status_of(call, argument, stream=method.server_streaming) not in MISSING


def status_of(call: Any, argument: Any, *, stream: bool) -> grpc.StatusCode:
    try:
        answer = call(argument, timeout=60)
        if stream:
            list(answer)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK
