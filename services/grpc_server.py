"""Serves gRPC the same way everywhere, and dials it: limits, balancing, health, stop."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services import interceptor
from services.grpc_channel import MESSAGE_LIMITS
from services.interceptor import Admit
from services.settings import CommonSettings

log = logging.getLogger(__name__)
GRACE = 20.0
HEALTH_PERIOD = 1.0
# Of calls that come faster than they are taken in, the library keeps 3,000 at most and ends others
# with CANCELLED and no word why. Here all are taken in; who refuses some gives a reason and a hint.
_PENDING_LIMIT = 2**30


@dataclass(frozen=True)
class ServiceSpec:
    """One gRPC service of a process.

    Attributes:
        name: full service name, for example ``memetwin.search.v1.SearchService``.
        register: adds the servicer to a server.
        ready: says whether the service can do its work now; an exception means no.
        admit: lets a caller in by the ``authorization`` of the call, or raises; None lets all in.
        parts: says of parts of the service whether they can do their work; ``name/part`` in health.
        reload: reads anew what has changed on disk; called at SIGHUP.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    ready: Callable[[], Awaitable[bool]]
    admit: Admit = None
    parts: Callable[[], Mapping[str, bool]] = dict
    reload: Callable[[], None] | None = None


class _Registry:
    """Takes what generated code registers, and wraps it; see ``answering``.

    Methods are not registered one by one: for each of those the server keeps a task of its own and
    waits for all of them with every call, with the gateway's thirty methods a quarter of what a
    call costs. Nor is there an interceptor, which would be asked for the same handlers each time.
    """

    def __init__(self, server: grpc.aio.Server, admits: Mapping[str, Admit]) -> None:
        self._server, self._admits = server, admits

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        wrapped = [_Handlers(one, self._admits.get(one.service_name())) for one in handlers]
        self._server.add_generic_rpc_handlers(wrapped)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Do nothing: the generic handlers know the same methods."""


class Server:
    """A running gRPC server with health and reflection.

    ``async with Server(faces, "127.0.0.1:0") as server`` serves until the block ends;
    ``server.port`` is the port it got.
    """

    def __init__(
        self, faces: Sequence[ServiceSpec], listen: str, *, shutdown_delay: float = 0.0
    ) -> None:
        self._faces = faces
        self._delay = shutdown_delay
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            options=[
                *MESSAGE_LIMITS,
                ("grpc.so_reuseport", 0),
                ("grpc.server.max_pending_requests", _PENDING_LIMIT),
                ("grpc.server.max_pending_requests_hard_limit", _PENDING_LIMIT),
                ("grpc.max_connection_age_ms", 300_000),
                ("grpc.max_connection_age_grace_ms", 330_000),
            ],
        )
        registry: Any = _Registry(self._server, {face.name: face.admit for face in faces})
        for face in faces:
            face.register(registry)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)
        names = [face.name for face in faces]
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add(reflection.aio.ReflectionServicer([*names, health, reflection.SERVICE_NAME]), registry)
        self.port = self._server.add_insecure_port(listen)

    async def __aenter__(self) -> "Server":
        await self._set("liveness", True)
        await self._check()
        await self._server.start()
        self._watch = asyncio.create_task(self._watch_health())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Say NOT_SERVING, let load balancers notice, refuse new calls, let running ones end."""
        self._watch.cancel()
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._delay)
        await self._server.stop(GRACE)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_PERIOD)
            await self._check()

    async def _check(self) -> None:
        ready = await asyncio.gather(*(_is_ready(face) for face in self._faces))
        for face, yes in zip(self._faces, ready, strict=True):
            await self._set(face.name, yes)
            for part, serves in face.parts().items():
                await self._set(f"{face.name}/{part}", serves)
        await self._set("readiness", any(ready))
        await self._set("", all(ready))

    async def _set(self, name: str, serving: bool) -> None:
        reply = health_pb2.HealthCheckResponse
        await self._health.set(name, reply.SERVING if serving else reply.NOT_SERVING)


async def _is_ready(face: ServiceSpec) -> bool:
    try:
        return await asyncio.wait_for(face.ready(), timeout=2.0)
    except Exception:
        log.debug("not ready", extra={"service": face.name}, exc_info=True)
        return False


async def serve(faces: Sequence[ServiceSpec], listen: str, settings: CommonSettings) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully.

    Raises:
        RuntimeError: the port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if any(face.reload for face in faces):
        loop.add_signal_handler(signal.SIGHUP, _reload, faces)
    async with Server(faces, listen, shutdown_delay=settings.shutdown_delay):
        log.info("serving", extra={"listen": listen, "services": [face.name for face in faces]})
        await stop.wait()
        log.info("stopping")


def _reload(faces: Sequence[ServiceSpec]) -> None:
    log.info("reloading")
    for face in faces:
        if face.reload:
            face.reload()


class _Handlers(grpc.ServiceRpcHandler):
    """The methods of a service, wrapped when they are first called."""

    def __init__(self, handlers: grpc.ServiceRpcHandler, admit: Admit) -> None:
        self._handlers, self._admit = handlers, admit
        self._wrapped: dict[str, Any] = {}  # by method

    def service_name(self) -> str:
        return str(self._handlers.service_name())

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = str(handler_call_details.method)
        if method not in self._wrapped:
            handler = self._handlers.service(handler_call_details)
            if handler is None:
                return None
            self._wrapped[method] = interceptor.wrap(method, self._admit, handler)
        return self._wrapped[method]
