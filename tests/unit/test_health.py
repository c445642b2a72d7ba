import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import grpc_server, health
from services.grpc_server import ServiceSpec

NAME = "memetwin.search.v1.SearchService"
Status = health_pb2.HealthCheckResponse
MESSAGES: Any = health_pb2


class Readiness:
    """Whether the service under test is ready; a test may change it."""

    def __init__(self) -> None:
        self.ready = True
        self.components = {"text": True}

    async def __call__(self) -> bool:
        return self.ready


@pytest.fixture
def readiness(monkeypatch: pytest.MonkeyPatch) -> Readiness:
    monkeypatch.setattr(grpc_server, "HEALTH_INTERVAL", 0.005)
    return Readiness()


@pytest.fixture
async def server(readiness: Readiness) -> AsyncIterator[grpc_server.Server]:
    spec = ServiceSpec(NAME, lambda _: None, readiness, components=lambda: readiness.components)
    async with grpc_server.Server([spec], "127.0.0.1:0") as server:
        yield server


@pytest.fixture
async def stub(server: grpc_server.Server) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        yield stub


def request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def read(call: Any) -> int:
    reply = await asyncio.wait_for(call.read(), 10)
    status: int = reply.status
    return status


async def test_check_returns_the_status_of_each_name(stub: Any) -> None:
    for name in (NAME, f"{NAME}/text", "", "liveness", "readiness"):
        assert (await stub.Check(request(name))).status == Status.SERVING, name


async def test_check_of_an_unknown_service_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(request("no.such.Service"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_list_returns_every_service(stub: Any, readiness: Readiness) -> None:
    reply = await stub.List(MESSAGES.HealthListRequest())
    statuses = {name: one.status for name, one in reply.statuses.items()}
    names = {NAME, f"{NAME}/text", "", "liveness", "readiness"}
    assert statuses == dict.fromkeys(names, Status.SERVING)


async def test_watch_sends_the_status_and_each_change(stub: Any, readiness: Readiness) -> None:
    call = stub.Watch(request(NAME))
    assert await read(call) == Status.SERVING
    readiness.ready = False
    assert await read(call) == Status.NOT_SERVING
    readiness.ready = True
    assert await read(call) == Status.SERVING
    call.cancel()


async def test_watch_of_an_unknown_service_waits_for_it(stub: Any, readiness: Readiness) -> None:
    call = stub.Watch(request(f"{NAME}/image"))
    assert await read(call) == Status.SERVICE_UNKNOWN
    readiness.components["image"] = False
    assert await read(call) == Status.NOT_SERVING
    call.cancel()


async def test_shutdown_is_reported_and_ends_every_watch() -> None:
    servicer = health.HealthServicer()
    servicer.set(NAME, serving=True)
    watch = servicer.Watch(request(NAME), None)
    assert (await anext(watch)).status == Status.SERVING
    servicer.shut_down()
    servicer.set(NAME, serving=True)
    assert (await anext(watch)).status == Status.NOT_SERVING
    servicer.close()
    assert [status async for status in watch] == []


async def test_watch_does_not_repeat_an_unchanged_status() -> None:
    servicer = health.HealthServicer()
    servicer.set(NAME, serving=True)
    watch = servicer.Watch(request(NAME), None)
    assert (await anext(watch)).status == Status.SERVING
    servicer.set(NAME, serving=True)
    servicer.set("another", serving=True)
    servicer.set(NAME, serving=False)
    assert (await anext(watch)).status == Status.NOT_SERVING
