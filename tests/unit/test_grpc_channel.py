"""A channel against real servers that fail on demand."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from services import error_details, grpc_channel, grpc_server, probe, tls
from services.errors import InvalidArgument, Unavailable
from services.grpc_server import ServiceSpec
from services.settings import CommonSettings, TlsFiles
from tests.certificates import Authority

SERVICE = "test.Flaky"


async def ready() -> bool:
    return True


class Flaky:
    """Fails the first attempts of each call."""

    def __init__(self, failures: list[Exception]) -> None:
        self.attempts = 0
        self._failures = iter(failures)

    def register(self, server: Any) -> None:
        methods: Any = {
            "Call": grpc.unary_unary_rpc_method_handler(self._call),
            "Stream": grpc.unary_stream_rpc_method_handler(self._stream),
            "Broken": grpc.unary_stream_rpc_method_handler(self._broken),
        }
        server.add_registered_method_handlers(SERVICE, methods)

    def _attempt(self) -> None:
        self.attempts += 1
        if error := next(self._failures, None):
            raise error

    async def _call(self, request: bytes, context: Any) -> bytes:
        self._attempt()
        return b"answer"

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self._attempt()
        yield b"answer"

    async def _broken(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        self._attempt()


async def run(flaky: Flaky, method: str) -> list[bytes]:
    spec = ServiceSpec(SERVICE, flaky.register, ready)
    async with (
        grpc_server.Server([spec], "127.0.0.1:0") as server,
        grpc_channel.dial(f"127.0.0.1:{server.port}") as channel,
    ):
        path = f"/{SERVICE}/{method}"
        if method == "Call":
            unary: Any = channel.unary_unary(path)
            return [await unary(b"", timeout=30)]
        stream: Any = channel.unary_stream(path)
        return [response async for response in stream(b"", timeout=30)]


def unavailable(times: int) -> list[Exception]:
    return [Unavailable("DOWN", "Retry.") for _ in range(times)]


@pytest.mark.parametrize("method", ["Call", "Stream"])
async def test_unavailable_is_retried_before_the_first_response(method: str) -> None:
    flaky = Flaky(unavailable(2))
    assert await run(flaky, method) == [b"answer"]
    assert flaky.attempts == 3


async def test_three_attempts_are_the_most() -> None:
    flaky = Flaky(unavailable(5))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await run(flaky, "Call")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert flaky.attempts == 3


async def test_a_stream_is_not_retried_after_its_first_response() -> None:
    flaky = Flaky(unavailable(1))
    with pytest.raises(grpc.aio.AioRpcError):
        await run(flaky, "Broken")
    assert flaky.attempts == 1


async def test_another_error_is_not_retried() -> None:
    flaky = Flaky([InvalidArgument("BAD", "Mend it.")])
    with pytest.raises(grpc.aio.AioRpcError):
        await run(flaky, "Call")
    assert flaky.attempts == 1


async def test_a_large_message_passes() -> None:
    content = b"x" * (5 * 2**20)  # gRPC's own limit is 4 MiB

    class Echo:
        def register(self, server: Any) -> None:
            async def echo(request: bytes, context: Any) -> bytes:
                return request

            handler: Any = grpc.unary_unary_rpc_method_handler(echo)
            server.add_registered_method_handlers(SERVICE, {"Call": handler})

    async with (
        grpc_server.Server([ServiceSpec(SERVICE, Echo().register, ready)], "127.0.0.1:0") as server,
        grpc_channel.dial(f"127.0.0.1:{server.port}") as channel,
    ):
        call: Any = channel.unary_unary(f"/{SERVICE}/Call")
        assert await call(content, timeout=30) == content


async def test_calls_are_spread_over_all_addresses() -> None:
    flakies = [Flaky([]), Flaky([])]
    servers = [
        grpc_server.Server([ServiceSpec(SERVICE, one.register, ready)], "127.0.0.1:0")
        for one in flakies
    ]
    addresses = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    async with servers[0], servers[1], grpc_channel.dial(f"ipv4:{addresses}") as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Call")
        while not all(one.attempts for one in flakies):
            await call(b"", timeout=30)


def test_clients_may_ping_every_ten_seconds_and_our_channels_ping_every_thirty() -> None:
    assert 8_000 <= grpc_server._MIN_PING_INTERVAL_MS < 10_000
    assert dict(grpc_channel.KEEPALIVE)["grpc.keepalive_time_ms"] == 30_000


class Streams:
    """Answers each message of a stream."""

    def register(self, server: Any) -> None:
        async def echo(requests: Any, context: Any) -> AsyncIterator[bytes]:
            async for request in requests:
                yield request

        handler: Any = grpc.stream_stream_rpc_method_handler(echo)
        server.add_registered_method_handlers(SERVICE, {"Call": handler})


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setattr(tls, "CHECK_INTERVAL", 0.0)
    return Authority(tmp_path)


def secure_server(files: TlsFiles) -> grpc_server.Server:
    settings = CommonSettings(
        tls_cert=files.cert,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
        tls_client_names=", ".join(files.client_names),
    )
    spec = ServiceSpec(SERVICE, Streams().register, ready)
    return grpc_server.Server([spec], "127.0.0.1:0", settings=settings)


async def ask(channel: grpc.aio.Channel) -> Any:
    call: Any = channel.stream_stream(f"/{SERVICE}/Call")
    stream = call(timeout=30)
    await stream.write(b"in")
    assert await stream.read() == b"in"
    return stream


async def test_calls_survive_a_new_certificate_on_both_sides(authority: Authority) -> None:
    async with (
        secure_server(authority.files) as server,
        grpc_channel.dial(f"127.0.0.1:{server.port}", authority.files) as channel,
    ):
        assert isinstance(channel, grpc_channel.ReloadingChannel)
        first = channel.current()
        old = await ask(channel)
        authority.replace()
        new = await ask(channel)
        assert channel.current() is not first
        for stream in (old, new):
            await stream.write(b"more")
            assert await stream.read() == b"more"
        assert not first.closed
        await old.done_writing()
        assert await old.read() is grpc.aio.EOF
        await old.code()
        while not first.closed:  # noqa: ASYNC110 - callbacks of calls have no event
            await asyncio.sleep(0)
        await new.write(b"last")
        assert await new.read() == b"last"


async def test_clients_without_a_trusted_certificate_are_refused(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").files
    stranger = TlsFiles(other.cert, other.key, authority.files.ca)
    async with secure_server(authority.files) as server:
        address = f"127.0.0.1:{server.port}"
        for files in (TlsFiles(), authority.client_files, stranger, other):
            async with grpc_channel.dial(address, files) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(channel)
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_the_certificate_of_a_client_must_have_an_allowed_name(authority: Authority) -> None:
    allowed = replace(authority.files, client_names=frozenset({"gateway.example", "127.0.0.1"}))
    others = replace(authority.files, client_names=frozenset({"gateway.example", "local"}))
    async with (
        secure_server(allowed) as server,
        grpc_channel.dial(f"127.0.0.1:{server.port}", authority.files) as channel,
    ):
        await ask(channel)
    async with secure_server(others) as server:
        address = f"127.0.0.1:{server.port}"
        async with grpc_channel.dial(address, authority.files) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(channel)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert error_details.from_rpc(caught.value, "x").reason == "UNKNOWN_CLIENT"
        assert await asyncio.to_thread(probe.is_serving, address, "liveness", authority.files)


async def test_a_server_may_admit_clients_without_a_certificate(authority: Authority) -> None:
    async with (
        secure_server(authority.server_files) as server,
        grpc_channel.dial(f"localhost:{server.port}", authority.client_files) as channel,
    ):
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await ask(channel)
