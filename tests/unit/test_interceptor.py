import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services import deadlines, grpc_server, telemetry
from services.errors import InvalidArgument, Overloaded, Unauthenticated
from services.grpc_server import ServiceSpec
from services.interceptor import Authenticate

_numbers = itertools.count()
_ports: list[int] = []


def channel_to_last() -> grpc.aio.Channel:
    """Return a channel to the server that was started last."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{_ports[-1]}")


async def ready() -> bool:
    return True


@asynccontextmanager
async def served(
    behaviour: Any,
    authenticate: Authenticate = None,
    *,
    stream: bool = False,
    limits: Mapping[str, int] = MappingProxyType({}),
) -> AsyncIterator[tuple[Any, str]]:
    """Serve one method; yield its callable and its name."""
    service = f"test.Service{next(_numbers)}"
    make: Any = (
        grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
    )

    def register(server: Any) -> None:
        server.add_registered_method_handlers(service, {"Call": make(behaviour)})

    spec = ServiceSpec(service, register, ready, authenticate, max_request_bytes=limits)
    async with (
        grpc_server.Server([spec], "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        _ports.append(server.port)
        method = f"/{service}/Call"
        yield (channel.unary_stream if stream else channel.unary_unary)(method), method


def count(method: str, code: str) -> float:
    """Return how many calls of a method were counted with a status code."""
    samples = [sample for metric in telemetry.RPCS.collect() for sample in metric.samples]
    labels = {"method": method, "code": code}
    return sum(
        sample.value
        for sample in samples
        if sample.name == "memetwin_rpc_total" and sample.labels == labels
    )


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def collect(call: Any) -> list[bytes]:
    return [response async for response in call]


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def test_a_response_passes_and_is_counted() -> None:
    async with served(echo) as (call, method):
        assert await call(b"hello", timeout=10) == b"hello"
    assert count(method, "OK") == 1


async def test_a_message_above_the_limit_of_its_method_is_refused() -> None:
    for limits in ({"Call": 4}, {"": 4}, {"": 2, "Call": 4}):
        async with served(echo, limits=limits) as (call, _):
            assert await call(b"four") == b"four"
            error = await error_of(call(b"fives"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    info = error_details_pb2.ErrorInfo()
    status: Any = rpc_status.from_call(cast(grpc.Call, error))
    assert status.details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("REQUEST_TOO_LARGE", {"size": "5", "limit": "4"})


async def test_a_stream_ends_at_a_message_above_the_limit() -> None:
    received: list[bytes] = []

    async def collect_all(requests: Any, context: Any) -> bytes:
        async for request in requests:
            received.append(request)
        return b""

    def register(server: Any) -> None:
        handler: Any = grpc.stream_unary_rpc_method_handler(collect_all)
        server.add_registered_method_handlers("test.Stream", {"Call": handler})

    spec = ServiceSpec("test.Stream", register, ready, max_request_bytes={"": 4})
    async with (
        grpc_server.Server([spec], "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call: Any = channel.stream_unary("/test.Stream/Call")
        assert await call(iter([b"one", b"two"])) == b""
        error = await error_of(call(iter([b"three"])))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert received == [b"one", b"two"]


async def test_a_failure_becomes_a_status_with_details() -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        raise Overloaded("QUEUE_FULL", "The queue is full.", retry_after=0.25, length=7)

    async with served(fail) as (call, method):
        error = await error_of(call(b"", timeout=10))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "The queue is full.",
    )
    caught: Any = error
    status = rpc_status.from_call(caught)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "QUEUE_FULL",
        "memetwin",
        {"length": "7"},
    )
    assert count(method, "RESOURCE_EXHAUSTED") == 1


async def test_an_internal_error_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        raise KeyError("secret")

    async with served(fail) as (call, method):
        error = await error_of(call(b"", timeout=10))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details())
    [record] = [one for one in caplog.records if one.message == "RPC failed"]
    assert record.__dict__["method"] == method
    assert record.exc_info is not None


async def test_authentication_sees_the_header_and_may_refuse() -> None:
    seen = []

    def authenticate(method: str, authorization: str) -> None:
        seen.append((method, authorization))
        if authorization != "Bearer right":
            raise Unauthenticated("BAD_KEY", "The key is unknown.")

    async with served(echo, authenticate) as (call, method):
        metadata = [("authorization", "Bearer right")]
        assert await call(b"in", timeout=10, metadata=metadata) == b"in"
        error = await error_of(call(b"in", timeout=10))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert seen == [(method, "Bearer right"), (method, "")]
    assert count(method, "UNAUTHENTICATED") == 1


def refuse(method: str, authorization: str) -> None:
    raise Unauthenticated("BAD_KEY", f"The key is unknown: {method!r}.")


async def test_a_call_is_refused_before_its_message_is_read() -> None:
    async with served(echo, refuse) as (_, method), channel_to_last() as channel:
        call: Any = channel.stream_unary(method)()  # no message is sent
        assert (await error_of(call)).code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_method_that_does_not_exist_needs_a_key_too() -> None:
    for authenticate, code in (
        (refuse, grpc.StatusCode.UNAUTHENTICATED),
        (lambda *_: None, grpc.StatusCode.UNIMPLEMENTED),
        (None, grpc.StatusCode.UNIMPLEMENTED),
    ):
        async with served(echo, authenticate) as (_, method), channel_to_last() as channel:
            for unknown in ("/test.Unknown/Call", f"{method}Unknown"):
                calls: Any = channel.unary_unary(unknown)
                error = await error_of(calls(b""))
                assert error.code() == code


async def test_a_call_runs_inside_its_admission() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def admission() -> AsyncIterator[None]:
        steps.append("admitted")
        yield
        steps.append("ended")

    async def one(request: bytes, context: Any) -> bytes:
        steps.append("called")
        return request

    async def some(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await one(request, context)

    for behaviour, stream in ((one, False), (some, True)):
        steps.clear()
        async with served(behaviour, lambda *_: admission(), stream=stream) as (call, _):
            response = call(b"", timeout=10)
            await (collect(response) if stream else response)
        assert steps == ["admitted", "called", "ended"]


async def test_an_admission_may_refuse_a_call() -> None:
    @asynccontextmanager
    async def admission() -> AsyncIterator[None]:
        raise Overloaded("LIMIT", "The limit is reached.", retry_after=1.0)
        yield

    async with served(echo, lambda *_: admission()) as (call, _):
        error = await error_of(call(b"", timeout=10))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_call_ends_in_the_service_too_at_its_callers_deadline() -> None:
    ended = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with served(wait) as (call, method):
        error = await error_of(call(b"", timeout=0.05))
        await asyncio.wait_for(ended.wait(), 10)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert count(method, "DEADLINE_EXCEEDED") == 1


@pytest.fixture
def short_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "DEFAULT_DEADLINE", 0.05)


@pytest.mark.usefixtures("short_default")
async def test_a_call_without_a_deadline_gets_the_default_one() -> None:
    async def wait(request: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with served(wait) as (call, method):
        error = await error_of(call(b""))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert count(method, "DEADLINE_EXCEEDED") == 1


@pytest.mark.usefixtures("short_default")
async def test_a_stream_without_a_deadline_gets_the_default_one_between_its_responses() -> None:
    closed = asyncio.Event()

    async def wait(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with served(wait, stream=True) as (call, method):
        responses = call(b"")
        assert await responses.read() == b"first"
        error = await error_of(responses.read())
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert closed.is_set()
    assert count(method, "DEADLINE_EXCEEDED") == 1


async def test_a_streams_responses_come_in_order_and_its_failure_after_them() -> None:
    async def some(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"
        if request:
            raise InvalidArgument("BAD", "The request is bad.", field="x")

    async with served(some, stream=True) as (call, method):
        assert await collect(call(b"", timeout=10)) == [b"one", b"two"]
        responses = call(b"bad", timeout=10)
        assert [await responses.read(), await responses.read()] == [b"one", b"two"]
        error = await error_of(responses.read())
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (count(method, "OK"), count(method, "INVALID_ARGUMENT")) == (1, 1)


async def test_a_cancelled_stream_is_closed_and_counted() -> None:
    closed = asyncio.Event()

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
        finally:
            closed.set()

    async with served(endless, stream=True) as (call, method):
        responses = call(b"", timeout=60)
        assert await responses.read() == b"more"
        responses.cancel()
        await asyncio.wait_for(closed.wait(), 10)
    assert count(method, "CANCELLED") == 1
