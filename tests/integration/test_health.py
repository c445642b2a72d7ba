"""Health and reflection of the three running services."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from services import health, reflection
from tests.stack import Stack

BEHIND = {"memetwin.embedder.v1.EmbedderService", "memetwin.search.v1.SearchService"}
SERVICES = {
    "embedder": {"memetwin.embedder.v1.EmbedderService"},
    "search": {"memetwin.search.v1.SearchService"},
    "gateway": BEHIND
    | {f"memetwin.gateway.v1.{name}Service" for name in ("Admin", "Cache", "Chat", "Rag", "Twin")},
}
SERVING = health_pb2.HealthCheckResponse.SERVING
MESSAGES: Any = health_pb2


@pytest.mark.parametrize("process", SERVICES)
def test_every_service_is_checked_listed_and_watched(stack: Stack, process: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(getattr(stack, process))
    listed = stub.List(MESSAGES.HealthListRequest(), timeout=30).statuses
    assert {*SERVICES[process], "", "liveness", "readiness"} <= set(listed)
    for name in SERVICES[process]:
        request = health_pb2.HealthCheckRequest(service=name)
        assert stub.Check(request, timeout=30).status == listed[name].status == SERVING
        watch = stub.Watch(request, timeout=30)
        assert next(watch).status == SERVING
        watch.cancel()


@pytest.mark.parametrize("version", [reflection.V1, reflection.V1ALPHA])
@pytest.mark.parametrize("process", SERVICES)
def test_every_service_is_reflected(stack: Stack, process: str, version: str) -> None:
    channel: grpc.Channel = getattr(stack, process)
    call: Any = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    [reply] = call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=30)
    names = {service.name for service in reply.list_services_response.service}
    assert names == {*SERVICES[process], health.NAME, reflection.V1, reflection.V1ALPHA}
