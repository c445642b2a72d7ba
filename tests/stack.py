"""The three services in this process: real servers on their own ports, in one thread."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import grpc_server
from services.embedder.__main__ import wire as wire_embedder
from services.embedder.settings import Settings as EmbedderSettings
from services.gateway.app import server
from services.gateway.settings import Settings as GatewaySettings
from services.gateway.wiring import wire as wire_gateway
from services.search.__main__ import wire as wire_search
from services.search.settings import Settings as SearchSettings

MESSAGE_LIMIT = 64 * 2**20


class Stack:
    """Runs until closed. Its addresses and channels exist once it is constructed.

    Args:
        redis_url: URL of Redis.
        prefix: prefix of all keys.
        embedder: settings of the embedder.
        gateway: settings of the gateway. All services have its service token.
    """

    def __init__(
        self, redis_url: str, prefix: str, embedder: dict[str, Any] | None = None, **gateway: Any
    ) -> None:
        self._redis_url, self._prefix, self._gateway = redis_url, prefix, gateway
        # Without a vector cache, every test computes its vectors.
        self._token = {"service_token": gateway.get("service_token", "")}
        settings: dict[str, Any] = {"embed_cache": 0} | self._token | (embedder or {})
        self._embedder = EmbedderSettings(**settings)
        self._started: Future[tuple[int, int, int, int]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        try:
            ports = self._started.result(120)
        except TimeoutError:  # so that services that start too slowly are not left behind
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(60)
            raise
        self.embedder_address, self.search_address, self.gateway_address, self.http_address = (
            f"127.0.0.1:{port}" for port in ports
        )
        self.embedder = channel(self.embedder_address)
        self.search = channel(self.search_address)
        self.gateway = channel(self.gateway_address)

    def close(self) -> None:
        for one in (self.embedder, self.search, self.gateway):
            one.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._task: Any = asyncio.current_task()
        async with contextlib.AsyncExitStack() as stack:
            try:
                ports = await self._start(stack)
            except BaseException as error:
                self._started.set_exception(error)
                return
            self._started.set_result(ports)
            await self._stop.wait()

    async def _start(self, stack: contextlib.AsyncExitStack) -> tuple[int, int, int, int]:
        enter = stack.enter_async_context
        settings: dict[str, Any] = {"redis_url": self._redis_url, "redis_prefix": self._prefix}
        search = await enter(wire_search(SearchSettings(**settings, **self._token)))
        search_port = (await enter(grpc_server.Server(search, "127.0.0.1:0"))).port
        embedder = await enter(wire_embedder(self._embedder))
        embedder_port = (await enter(grpc_server.Server(embedder, "127.0.0.1:0"))).port
        gateway_settings = GatewaySettings(
            embedder_address=f"127.0.0.1:{embedder_port}",
            search_address=f"127.0.0.1:{search_port}",
            **settings,
            **self._gateway,
        )
        gateway = await enter(wire_gateway(gateway_settings))
        self.routes = gateway.application.routes
        gateway_port = (await enter(grpc_server.Server(gateway.service_specs, "127.0.0.1:0"))).port
        http = await enter(server.serve(gateway.application, "127.0.0.1", 0))
        return embedder_port, search_port, gateway_port, http.port


def wait_until_ready(stack: Stack) -> None:
    """Wait until all services of a stack are ready."""
    health: Any = health_pb2_grpc.HealthStub(stack.gateway)
    serving = health_pb2.HealthCheckResponse.SERVING
    wait_until(lambda: health.Check(health_pb2.HealthCheckRequest()).status == serving)


def channel(address: str) -> grpc.Channel:
    options = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ]
    return grpc.insecure_channel(address, options=options)


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    """Wait until a condition is true. RPC and operating system errors count as false."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(grpc.RpcError, OSError):
            if condition():
                return
        assert time.monotonic() < end, f"the condition is not true after {seconds:.0f} s"
        time.sleep(0.02)
