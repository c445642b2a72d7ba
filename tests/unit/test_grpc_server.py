import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    rag_pb2,
    rag_pb2_grpc,
    twin_pb2,
    twin_pb2_grpc,
)
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services import grpc_server
from services.errors import Unauthenticated
from services.grpc_channel import MESSAGE_LIMIT
from services.grpc_server import HandlerRegistry, Server, ServiceSpec
from services.settings import CommonSettings

GENERATED = [
    (embedder_pb2, embedder_pb2_grpc, "EmbedderService"),
    (search_pb2, search_pb2_grpc, "SearchService"),
    (cache_pb2, cache_pb2_grpc, "CacheService"),
    (chat_pb2, chat_pb2_grpc, "ChatService"),
    (rag_pb2, rag_pb2_grpc, "RagService"),
    (twin_pb2, twin_pb2_grpc, "TwinService"),
    (health_pb2, health_pb2_grpc, "Health"),
    (reflection_pb2, reflection_pb2_grpc, "ServerReflection"),
]


class FakeServer:
    """Collects the generic handlers that a registry adds."""

    def __init__(self) -> None:
        self.handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.handlers += handlers


class Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


@pytest.mark.parametrize(("messages", "stubs", "name"), GENERATED)
def test_generated_code_registers_every_method_with_the_registry(
    messages: Any, stubs: Any, name: str
) -> None:
    server: Any = FakeServer()
    registry = HandlerRegistry(server, {})
    getattr(stubs, f"add_{name}Servicer_to_server")(getattr(stubs, f"{name}Servicer")(), registry)
    descriptor = messages.DESCRIPTOR.services_by_name[name]
    for method in descriptor.methods_by_name:
        details = Details(f"/{descriptor.full_name}/{method}")
        assert any(one.service(details) for one in server.handlers), (
            "generated code registers servicers in a new way:"
            f" HandlerRegistry in services/grpc_server.py misses {details.method}"
        )


def spec(name: str, *, ready: bool, **more: Any) -> ServiceSpec:
    async def is_ready() -> bool:
        if not ready:
            raise ConnectionError("the dependency is down")
        return True

    return ServiceSpec(name, lambda _: None, is_ready, **more)


async def status(server: Server, service: str) -> str:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


async def test_one_service_that_is_not_ready_leaves_the_others_ready() -> None:
    specs = [spec("test.A", ready=True), spec("test.B", ready=False)]
    expected = {
        "test.A": "SERVING",
        "test.B": "NOT_SERVING",
        "liveness": "SERVING",
        "readiness": "SERVING",
        "": "NOT_SERVING",
    }
    async with Server(specs, "127.0.0.1:0") as server:
        assert {name: await status(server, name) for name in expected} == expected


async def test_with_no_service_ready_the_process_is_alive_but_not_ready() -> None:
    async with Server([spec("test.A", ready=False)], "127.0.0.1:0") as server:
        assert await status(server, "readiness") == "NOT_SERVING"
        assert await status(server, "liveness") == "SERVING"


def test_the_largest_request_is_that_of_any_method() -> None:
    assert spec("test.A", ready=True).largest_request == MESSAGE_LIMIT
    limited = spec("test.A", ready=True, max_request_bytes={"": 1, "Upload": 8})
    assert (limited.largest_request, limited.request_limit("Upload")) == (8, 8)


@pytest.mark.parametrize("chosen", [True, False])
async def test_reflection_can_be_turned_off(chosen: bool) -> None:
    settings = CommonSettings(reflection=chosen)
    async with (
        Server([spec("test.A", ready=True)], "127.0.0.1:0", settings=settings) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        make_stub: Any = reflection_pb2_grpc.ServerReflectionStub
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = make_stub(channel).ServerReflectionInfo(iter([request]))
        with contextlib.suppress(grpc.aio.AioRpcError):
            assert [reply async for reply in call]
        assert (await call.code() is grpc.StatusCode.OK) == chosen


async def test_a_burst_of_calls_on_one_connection_is_served() -> None:
    class Settings(CommonSettings):
        max_calls_of_connection: ClassVar[int] = 100

    async with (
        Server([spec("test.A", ready=True)], "127.0.0.1:0", settings=Settings()) as server,
        # Without retries, a call that gRPC refuses for its own reasons fails.
        grpc.aio.insecure_channel(
            f"127.0.0.1:{server.port}", options=[("grpc.enable_retries", 0)]
        ) as channel,
    ):
        make_stub: Any = health_pb2_grpc.HealthStub
        check, request = make_stub(channel).Check, health_pb2.HealthCheckRequest()
        replies = await asyncio.gather(*(check(request, timeout=60) for _ in range(2000)))
    assert {reply.status for reply in replies} == {health_pb2.HealthCheckResponse.SERVING}


async def test_the_port_of_another_server_is_refused() -> None:
    async with Server([], "127.0.0.1:0") as server:
        with pytest.raises(RuntimeError, match=str(server.port)):
            Server([], f"127.0.0.1:{server.port}")


@pytest.fixture
async def signals() -> AsyncIterator[Callable[[signal.Signals], None]]:
    yield lambda number: os.kill(os.getpid(), number)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(number)


async def test_sighup_reloads_and_sigterm_stops(signals: Callable[[signal.Signals], None]) -> None:
    started, reloaded = asyncio.Event(), asyncio.Event()

    def components() -> Mapping[str, bool]:
        started.set()
        return {}

    one = spec("test.A", ready=True, components=components, reload=reloaded.set)
    task = asyncio.create_task(grpc_server.serve([one], "127.0.0.1:0", CommonSettings()))
    await asyncio.wait_for(started.wait(), 10)
    signals(signal.SIGHUP)
    await asyncio.wait_for(reloaded.wait(), 10)
    signals(signal.SIGTERM)
    await asyncio.wait_for(task, 10)


async def test_sighup_does_not_end_a_service_that_reloads_nothing(
    signals: Callable[[signal.Signals], None],
) -> None:
    started = asyncio.Event()

    def components() -> Mapping[str, bool]:
        started.set()
        return {}

    one = spec("test.A", ready=True, components=components)
    task = asyncio.create_task(grpc_server.serve([one], "127.0.0.1:0", CommonSettings()))
    await asyncio.wait_for(started.wait(), 10)
    signals(signal.SIGHUP)
    signals(signal.SIGTERM)
    await asyncio.wait_for(task, 10)


async def test_health_needs_no_key_and_reflection_does() -> None:
    def refuse(method: str, authorization: str) -> None:
        raise Unauthenticated("BAD_KEY", f"The key is unknown: {method!r}.")

    async with (
        Server([spec("test.A", ready=True, authenticate=refuse)], "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        assert await status(server, "test.A") == "SERVING"
        make: Any = reflection_pb2_grpc.ServerReflectionStub
        stub = make(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ServerReflectionInfo(iter([])).read()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
