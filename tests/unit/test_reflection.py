"""Both versions of reflection on a real server, each with the messages of its own package."""

import importlib.util
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services import grpc_server, health, reflection
from services.grpc_server import ServiceSpec

NAME = "memetwin.search.v1.SearchService"


async def ready() -> bool:
    return True


async def ask(package: str, **question: str) -> Any:
    """Send one request to a reflection service, with the messages of its package."""
    pool: Any = descriptor_pool.Default()
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in ("ServerReflectionRequest", "ServerReflectionResponse")
    )
    spec = ServiceSpec(NAME, lambda _: None, ready)
    async with (
        grpc_server.Server([spec], "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call: Any = channel.stream_stream(
            f"/{package}.ServerReflection/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        [reply] = [one async for one in call(iter([request(**question)]), timeout=10)]
        return reply


@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
async def test_the_services_are_listed(package: str) -> None:
    reply = await ask(package, list_services="")
    names = {service.name for service in reply.list_services_response.service}
    assert names == {NAME, health.NAME, reflection.V1, reflection.V1ALPHA}


@pytest.mark.parametrize("symbol", [health.NAME, reflection.V1, reflection.V1ALPHA])
async def test_a_symbol_leads_to_its_file(symbol: str) -> None:
    reply = await ask("grpc.reflection.v1", file_containing_symbol=symbol)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(one)
        for one in reply.file_descriptor_response.file_descriptor_proto
    ]
    assert symbol in {f"{file.package}.{one.name}" for file in files for one in file.service}


def test_the_library_still_has_no_v1() -> None:
    assert importlib.util.find_spec("grpc_reflection.v1") is None, (
        "grpcio-reflection now ships v1: services/reflection.py can use it instead of deriving v1"
    )
