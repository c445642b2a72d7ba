import asyncio
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from services import grpc_server
from services.grpc_server import ServiceSpec

NAME, METHOD = "test.Slow", "/test.Slow/Wait"


async def _ready() -> bool:
    return True


def counted() -> float:
    labels = {"method": METHOD, "code": "DEADLINE_EXCEEDED"}
    return REGISTRY.get_sample_value("memetwin_rpc_total", labels) or 0.0


async def test_a_call_ends_in_the_service_too_at_its_callers_deadline() -> None:
    ended = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return b""

    def register(server: Any) -> None:
        methods: Any = {"Wait": grpc.unary_unary_rpc_method_handler(wait)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, methods),))

    async with (
        grpc_server.Server([ServiceSpec(NAME, register, _ready)], "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=0.2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(ended.wait(), 5)
        await asyncio.sleep(0.1)
    assert counted() == 1
