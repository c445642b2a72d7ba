"""Calls that are silent for longer than the keepalive pings of their client."""

import asyncio
from typing import Any

import grpc
import pytest

from services import grpc_channel, grpc_server
from services.grpc_server import ServiceSpec

SERVICE = "test.Slow"


async def ready() -> bool:
    return True


class Slow:
    """Answers after 45 seconds."""

    def register(self, server: Any) -> None:
        async def answer(request: bytes, context: Any) -> bytes:
            await asyncio.sleep(45)
            return b"answer"

        handler: Any = grpc.unary_unary_rpc_method_handler(answer)
        server.add_registered_method_handlers(SERVICE, {"Call": handler})


async def call_slowly(channel: grpc.aio.Channel) -> bytes:
    call: Any = channel.unary_unary(f"/{SERVICE}/Call")
    response: bytes = await call(b"", timeout=90)
    return response


@pytest.mark.long
async def test_a_silent_call_survives_pings_every_ten_seconds() -> None:
    def options(seconds: int) -> Any:
        interval = ("grpc.keepalive_time_ms", seconds * 1000)
        return [interval, ("grpc.http2.max_pings_without_data", 0)]

    async with grpc_server.Server(
        [ServiceSpec(SERVICE, Slow().register, ready)], "[::]:0"
    ) as server:
        address = f"127.0.0.1:{server.port}"
        async with (
            grpc.aio.insecure_channel(address, options=options(10)) as often,
            grpc.aio.insecure_channel(address, options=options(5)) as too_often,
            grpc_channel.dial(address) as ours,
        ):
            calls = [call_slowly(channel) for channel in (often, ours, too_often)]
            *answers, error = await asyncio.gather(*calls, return_exceptions=True)
    assert answers == [b"answer", b"answer"]
    assert "Too many pings" in str(error)  # the interval that the server permits is effective
