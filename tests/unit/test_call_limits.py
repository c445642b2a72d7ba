"""The limits of a server, first alone and then under raw frames of HTTP/2."""

import asyncio
from typing import Any

import grpc
import pytest

from services import call_limits, grpc_server
from services.call_limits import ByteBudget, CallLimits
from services.errors import DeadlineExceeded, Overloaded
from services.grpc_server import ServiceSpec
from services.settings import CommonSettings
from tests.http2 import RawClient


def test_a_budget_is_shared_by_owners() -> None:
    budget = ByteBudget(100)
    assert budget.acquire(50, "acme")
    assert not budget.acquire(1, "acme")
    assert budget.acquire(40, "umbrella")
    assert not budget.acquire(11)
    assert budget.acquire(10)
    budget.release(50, "acme")
    assert budget.acquire(50, "acme")
    for size, owner in [(50, "acme"), (40, "umbrella"), (10, "")]:
        budget.release(size, owner)
    assert budget.acquire(100)


def test_the_bytes_of_a_call_are_those_of_its_last_message() -> None:
    limits = CallLimits(max_bytes=10)
    with limits.open() as call:
        for _ in range(3):
            call.hold(10)
        with limits.open() as other, pytest.raises(Overloaded, match="memory"):
            other.hold(1)
    with limits.open() as call:
        call.hold(10)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limits, "SWEEP_INTERVAL", 0.01)


async def never() -> bytes:
    await asyncio.Event().wait()
    return b""


async def receive(limits: CallLimits, weight: int = 1) -> Any:
    with limits.open() as call:
        return await call.receive(never, weight)


async def test_a_message_in_time_is_returned() -> None:
    async def read() -> bytes:
        return b"message"

    limits = CallLimits()
    with limits.open() as call:
        assert await call.receive(read, 7) == b"message"
    assert limits.calls == 0


@pytest.mark.usefixtures("fast")
async def test_a_message_that_does_not_arrive_is_cut() -> None:
    limits = CallLimits()
    with pytest.raises(DeadlineExceeded, match="did not arrive"):
        await receive(limits)
    assert limits.calls == 0
    assert limits.slow_bytes.acquire(call_limits.MAX_SLOW_BYTES)


@pytest.mark.usefixtures("fast")
async def test_slow_messages_reserve_the_most_that_they_may_have() -> None:
    limits, half = CallLimits(), call_limits.MAX_SLOW_BYTES // 2
    ends = await asyncio.gather(*(receive(limits, half) for _ in range(3)), return_exceptions=True)
    assert [type(end) for end in ends] == [DeadlineExceeded, DeadlineExceeded, Overloaded]


async def test_too_many_calls_are_refused_until_one_has_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = CallLimits(max_calls=2)
    with limits.open(), limits.open(), pytest.raises(Overloaded, match="too many calls"):
        limits.open()
    waiting = [asyncio.create_task(receive(limits)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        limits.open()
    monkeypatch.setattr(call_limits, "ROOM_SWEEPS", 0)
    with limits.open():
        ends = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        [cut] = ends[0]
        assert isinstance(cut.exception(), Overloaded)
        assert cut is waiting[0]
    waiting[1].cancel()
    await asyncio.wait(waiting)
    assert limits.calls == 0


async def test_a_cancelled_call_is_forgotten() -> None:
    limits = CallLimits()
    task = asyncio.create_task(receive(limits))
    await asyncio.sleep(0)
    assert limits.calls == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limits.calls == 0


METHOD = "/test.Echo/Call"


@pytest.fixture
def spec() -> ServiceSpec:
    async def ready() -> bool:
        return True

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    def register(server: Any) -> None:
        handler: Any = grpc.unary_unary_rpc_method_handler(echo)
        server.add_registered_method_handlers("test.Echo", {"Call": handler})

    return ServiceSpec("test.Echo", register, ready, max_request_bytes={"": 1024})


async def call(server: grpc_server.Server) -> bytes:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        method: Any = channel.unary_unary(METHOD)
        answer: bytes = await method(b"in", timeout=60)
        return answer


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x10\x00\x00half"])
async def test_a_half_open_call_is_cut_with_a_status(spec: ServiceSpec, data: bytes) -> None:
    async with (
        grpc_server.Server([spec], "127.0.0.1:0") as server,
        RawClient(server.port) as client,
    ):
        stream = client.begin(METHOD)
        if data:
            client.send(stream, data)
        client.flush()
        trailers = await asyncio.wait_for(client.trailers(stream), 60)
        assert trailers["grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        assert await call(server) == b"in"


async def test_half_open_calls_make_room_when_the_server_is_full(
    spec: ServiceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = CallLimits(max_calls=50)
    monkeypatch.setattr(grpc_server, "CallLimits", lambda *_: limits)
    async with (
        grpc_server.Server([spec], "127.0.0.1:0") as server,
        RawClient(server.port) as client,
    ):
        streams = [client.begin(METHOD) for _ in range(200)]
        client.flush()
        refused = await asyncio.wait_for(client.trailers(streams[-1]), 60)
        assert refused["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        assert "grpc-status-details-bin" in refused
        assert limits.calls == 50
        for _ in range(call_limits.ROOM_SWEEPS):
            limits._sweep()
        assert await call(server) == b"in"


async def test_calls_that_are_reset_at_once_leave_nothing(spec: ServiceSpec) -> None:
    async with grpc_server.Server([spec], "127.0.0.1:0") as server:
        async with RawClient(server.port) as client:
            for _ in range(2_000):
                client.reset(client.begin(METHOD))
                client.flush()
        assert await call(server) == b"in"


@pytest.mark.parametrize(("data", "code"), [(None, "INVALID_ARGUMENT"), (b"\x00", "OK")])
async def test_a_call_without_a_message_gets_a_status(
    spec: ServiceSpec, data: bytes | None, code: str
) -> None:
    async with (
        grpc_server.Server([spec], "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stream: Any = channel.stream_unary(METHOD)
        started = stream(iter([data] if data else []), timeout=60)
        assert (await started.code()).name == code


async def test_more_calls_than_a_connection_may_have_wait_in_the_client(spec: ServiceSpec) -> None:
    class Settings(CommonSettings):
        max_calls_of_connection = 100

    async with (
        grpc_server.Server([spec], "127.0.0.1:0", settings=Settings()) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        method: Any = channel.unary_unary(METHOD)
        calls = [method(b"in", timeout=120) for _ in range(2_000)]
        assert set(await asyncio.gather(*calls)) == {b"in"}
