"""Serves gRPC the same way in every process: limits, TLS, health, reflection, graceful shutdown."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2_grpc

from services import health, interceptor, reflection, telemetry, tls
from services.call_limits import CallLimits
from services.grpc_channel import MESSAGE_LIMIT
from services.interceptor import Authenticate
from services.settings import CommonSettings

log = logging.getLogger(__name__)
GRACE_PERIOD = 20.0
HEALTH_INTERVAL = 1.0
READINESS_TIMEOUT = 2.0
# gRPC keeps at most 3,000 pending calls and ends the others with CANCELLED, without a reason. We
# lift this limit, so that a service under overload returns RESOURCE_EXHAUSTED with a RetryInfo.
_MAX_PENDING = 2**30
# gRPC ends a connection whose client sends pings at a shorter interval. Clients may send one every
# ten seconds; the last second is for jitter.
_MIN_PING_INTERVAL_MS = 9_000
_DEFAULTS = CommonSettings()
# Calls of health and reflection, and the bytes of their messages.
_MAX_PROBES = 512
_PROBE_BYTES = 2**16
# A connection without a complete handshake is closed.
_MAX_CONNECTIONS = 4096
_HANDSHAKE_TIMEOUT_MS = 10_000
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.server.max_pending_requests", _MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
]
# gRPC can also limit the calls of a connection that have ended and are not freed yet, so that a
# client that resets calls rapidly cannot queue more and more of them. Versions without room for
# such calls would reset new calls of clients that keep to the limit of concurrent ones.
_LIMITS_ENDED_CALLS = tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 82)


@dataclass(frozen=True)
class ServiceSpec:
    """One gRPC service of a process.

    Attributes:
        name: full service name, for example ``memetwin.search.v1.SearchService``.
        register: adds the servicer to a server.
        ready: returns whether the service can do its work now; an exception means no.
        authenticate: checks the callers of the service, see ``interceptor.Handlers``; None admits
            every caller. That of any service also checks the callers of reflection and of unknown
            methods.
        components: returns whether each component of the service can do its work; health reports
            them as ``name/component``.
        reload: reads changed files again; called on SIGHUP.
        max_request_bytes: limits of the messages of a request, by method; the limit of every other
            method has the name "".
        owner: returns whose share of the server's limits the current call uses; empty for none.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    ready: Callable[[], Awaitable[bool]]
    authenticate: Authenticate = None
    components: Callable[[], Mapping[str, bool]] = dict
    reload: Callable[[], None] | None = None
    max_request_bytes: Mapping[str, int] = field(default_factory=dict)
    owner: Callable[[], str] = str

    def request_limit(self, method: str) -> int:
        """Return how many bytes a request message of a method may have."""
        limits = self.max_request_bytes
        return limits.get(method, limits.get("", MESSAGE_LIMIT))

    @property
    def largest_request(self) -> int:
        """How many bytes a request message of any method may have."""
        return max([self.request_limit(""), *self.max_request_bytes.values()])


class Companion(Protocol):
    """A server of another protocol in the same process, which stops together with this one."""

    def report_stopping(self) -> None:
        """Report that the process is no longer ready. Calls are still served."""

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give running calls ``grace`` seconds to end, and cut off the rest."""


class HandlerRegistry:
    """Stands in for a server where generated code registers a servicer; wraps each handler.

    The server gets only generic handlers. For each method that is registered separately, grpc.aio
    keeps a task, and every call wakes all of these tasks. With the gateway's thirty methods, that
    is a quarter of the cost of a call. A ``grpc.aio.ServerInterceptor`` would look up and wrap the
    handler again for every call.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        specs: Mapping[str, ServiceSpec],
        client_names: Set[str] = frozenset(),
    ) -> None:
        self._server, self._specs, self._client_names = server, specs, client_names
        # Probes are answered while calls are refused.
        self._limits, self._probe_limits = CallLimits(), CallLimits(_MAX_PROBES)
        authenticates = [spec.authenticate for spec in specs.values() if spec.authenticate]
        self._authenticate_unnamed: Authenticate = (
            (lambda _, authorization: authenticates[0]("", authorization))
            if authenticates
            else None
        )

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Do nothing: ``add_registered_method_handlers`` gets the same handlers."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the handlers of a service to the server, wrapped by ``interceptor``."""
        spec = self._specs.get(service)
        wrapped: Any = {
            f"/{service}/{name}": interceptor.wrap_handler(
                f"/{service}/{name}",
                handler,
                spec.request_limit(name) if spec else _PROBE_BYTES,
                self._limits if spec else self._probe_limits,
                spec.owner if spec else str,
            )
            for name, handler in handlers.items()
        }
        authenticate = spec.authenticate if spec else self._authenticate_unnamed
        if service == health.NAME:
            authenticate = None
        elif self._client_names:
            wrapped = {
                method: interceptor.wrap_for_clients(method, handler, self._client_names)
                for method, handler in wrapped.items()
            }
        self._server.add_generic_rpc_handlers((interceptor.Handlers(wrapped, authenticate),))

    def refuse_unknown_methods(self) -> None:
        """Authenticate the callers of all methods that no handler serves."""
        handlers = interceptor.Handlers({}, self._authenticate_unnamed)
        self._server.add_generic_rpc_handlers((handlers,))


class Server:
    """A running gRPC server with health and reflection.

    ``async with Server(specs, "127.0.0.1:0") as server`` serves until the block ends;
    ``server.port`` is the port it listens on.

    Args:
        specs: the services.
        listen: the address, as ``host:port``.
        settings: whether to use TLS, whether to serve reflection, and how to stop.
        companion: a server that stops together with this one.
    """

    def __init__(
        self,
        specs: Sequence[ServiceSpec],
        listen: str,
        *,
        settings: CommonSettings = _DEFAULTS,
        companion: Companion | None = None,
    ) -> None:
        self._specs, self._companion = specs, companion
        self._shutdown_delay = settings.shutdown_delay
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
                # gRPC receives a whole message before a method can refuse it.
                ("grpc.max_receive_message_length", _receive_limit(specs)),
                *_OPTIONS,
                *_connection_options(settings.max_calls_of_connection),
            ],
        )
        by_name = {spec.name: spec for spec in specs}
        registry: Any = HandlerRegistry(self._server, by_name, settings.tls.client_names)
        for spec in specs:
            spec.register(registry)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)
        if settings.reflection:
            reflection.add_to_server([*(spec.name for spec in specs), health.NAME], registry)
        registry.refuse_unknown_methods()
        if settings.tls_cert:
            credentials = tls.server_credentials(settings.tls)
            self.port = self._server.add_secure_port(listen, credentials)
        else:
            self.port = self._server.add_insecure_port(listen)

    async def __aenter__(self) -> "Server":
        self._health.set("liveness", True)
        await self._update_health()
        await self._server.start()
        self._health_task = asyncio.create_task(self._keep_health_updated())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Report NOT_SERVING, wait for load balancers, refuse new calls, let running calls end."""
        self._health_task.cancel()
        self._health.shut_down()
        if self._companion:
            self._companion.report_stopping()
        await asyncio.sleep(self._shutdown_delay)
        self._health.close()
        async with asyncio.TaskGroup() as stops:
            stops.create_task(self._server.stop(GRACE_PERIOD))
            if self._companion:
                stops.create_task(self._companion.stop(GRACE_PERIOD))

    async def _keep_health_updated(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_INTERVAL)
            await self._update_health()

    async def _update_health(self) -> None:
        ready = await asyncio.gather(*(_is_ready(spec) for spec in self._specs))
        for spec, is_ready in zip(self._specs, ready, strict=True):
            self._health.set(spec.name, is_ready)
            for component, component_ready in spec.components().items():
                self._health.set(f"{spec.name}/{component}", component_ready)
        self._health.set("readiness", any(ready))
        self._health.set("", all(ready))


def _connection_options(max_calls: int) -> list[tuple[str, int]]:
    """Return the options that bound what a client can do with a connection."""
    return [
        ("grpc.max_concurrent_streams", max_calls),
        ("grpc.http.overload_protection", int(_LIMITS_ENDED_CALLS)),
        ("grpc.http2.max_deallocating_streams", max_calls),
        ("grpc.max_allowed_incoming_connections", _MAX_CONNECTIONS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_age_ms", 300_000),
        ("grpc.max_connection_age_grace_ms", 330_000),
    ]


def _receive_limit(specs: Sequence[ServiceSpec]) -> int:
    """Return how many bytes any request message may have; at least as many as gRPC's default."""
    return max([4 * 2**20, *(spec.largest_request for spec in specs)])


async def _is_ready(spec: ServiceSpec) -> bool:
    try:
        return await asyncio.wait_for(spec.ready(), READINESS_TIMEOUT)
    except Exception:
        log.debug("readiness check failed", extra={"service": spec.name}, exc_info=True)
        return False


async def run(
    wired: AbstractAsyncContextManager[Sequence[ServiceSpec]], listen: str, settings: CommonSettings
) -> None:
    """Set up telemetry, build the services of a process, and serve them as ``serve`` does."""
    telemetry.set_up(settings)
    async with wired as specs:
        await serve(specs, listen, settings)


async def serve(
    specs: Sequence[ServiceSpec],
    listen: str,
    settings: CommonSettings,
    companion: Companion | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then shut down gracefully, together with the companion.

    Raises:
        RuntimeError: another process listens on the port.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Without a handler, SIGHUP ends the process.
    loop.add_signal_handler(signal.SIGHUP, _reload, specs)
    async with Server(specs, listen, settings=settings, companion=companion):
        log.info("serving", extra={"listen": listen, "services": [spec.name for spec in specs]})
        await stop.wait()
        log.info("stopping")


def _reload(specs: Sequence[ServiceSpec]) -> None:
    log.info("reloading")
    for spec in specs:
        if spec.reload:
            spec.reload()
