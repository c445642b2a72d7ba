"""Serves gRPC the same way everywhere, and dials it: limits, deadlines, errors, health, stop."""

import asyncio
import contextlib
import contextvars
import functools
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services import status, telemetry
from services.errors import DeadlineExceeded, Failure
from services.settings import CommonSettings

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 64 * 2**20
DEFAULT_DEADLINE = 30.0
LONG_DEADLINE = 300.0
LONG_CALLS = (
    *("Ask", "StreamAsk", "Complete", "StreamComplete", "IngestDocuments", "EmbedStream"),
    *("Calibrate", "CalibrateRefusals", "Reindex", "UpdateCollection", "UpsertStream"),
    *("MeasureRecall", "TuneIndex", "ExportCollection", "ImportCollection"),
)
GRACE = 20.0
HEALTH_PERIOD = 1.0
# Of calls that come faster than they are taken in, the library keeps 3,000 at most and ends others
# with CANCELLED and no word why. Here all are taken in; who refuses some gives a reason and a hint.
_PENDING_LIMIT = 2**30
_LIMITS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
]
# Only UNAVAILABLE is tried again: the call did not happen. Streams are not (gRFC A6).
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)


@dataclass(frozen=True)
class Face:
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
    admit: Callable[[str], None] | None = None
    parts: Callable[[], Mapping[str, bool]] = dict
    reload: Callable[[], None] | None = None


def dial(address: str) -> grpc.aio.Channel:
    """Open a channel with our message limits, balanced over all addresses, retrying UNAVAILABLE."""
    options = [
        *_LIMITS,
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.initial_reconnect_backoff_ms", 200),
    ]
    return grpc.aio.insecure_channel(address, options=options)


def time_left(margin: float = 0.01) -> float | None:
    """Return the seconds an outgoing call may take, so that it never outlives its caller's call.

    Outside of a call there is no limit. ``margin`` leaves time to pass the answer on.

    Raises:
        DeadlineExceeded: no time is left.
    """
    deadline = _deadline.get()
    if deadline is None:
        return None
    left = deadline - time.monotonic() - margin
    if left <= 0:
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "The call's deadline has passed.")
    return left


@contextlib.contextmanager
def within(seconds: float) -> Any:
    """Give what runs inside a deadline, as a gRPC call has one (for other faces)."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


class _ByName:
    """Takes what generated code registers, but no method one by one.

    For each of those the server keeps a task of its own and waits for all of them with every call:
    with the gateway's thirty methods a quarter of what a call costs.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Do nothing: the generic handlers know the same methods."""


class Server:
    """A running gRPC server with health and reflection.

    ``async with Server(faces, "127.0.0.1:0") as server`` serves until the block ends;
    ``server.port`` is the port it got.
    """

    def __init__(self, faces: Sequence[Face], listen: str, *, shutdown_delay: float = 0.0) -> None:
        self._faces = faces
        self._delay = shutdown_delay
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[_Interceptor({face.name: face.admit for face in faces})],
            options=[
                *_LIMITS,
                ("grpc.so_reuseport", 0),
                ("grpc.server.max_pending_requests", _PENDING_LIMIT),
                ("grpc.server.max_pending_requests_hard_limit", _PENDING_LIMIT),
                ("grpc.max_connection_age_ms", 300_000),
                ("grpc.max_connection_age_grace_ms", 330_000),
            ],
        )
        by_name: Any = _ByName(self._server)
        for face in faces:
            face.register(by_name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, by_name)
        names = [face.name for face in faces]
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add(reflection.aio.ReflectionServicer([*names, health, reflection.SERVICE_NAME]), by_name)
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


async def _is_ready(face: Face) -> bool:
    try:
        return await asyncio.wait_for(face.ready(), timeout=2.0)
    except Exception:
        log.debug("not ready", extra={"service": face.name}, exc_info=True)
        return False


async def serve(faces: Sequence[Face], listen: str, settings: CommonSettings) -> None:
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


def _reload(faces: Sequence[Face]) -> None:
    log.info("reloading")
    for face in faces:
        if face.reload:
            face.reload()


Admit = Callable[[str], None] | None


class _Interceptor(grpc.aio.ServerInterceptor):
    """Gives every call a deadline, turns failures into statuses, counts and times calls."""

    def __init__(self, admits: Mapping[str, Callable[[str], None] | None]) -> None:
        self._admits = admits
        self._wrapped: dict[str, Any] = {}  # by method

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        method = str(details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                return None
            admit = self._admits.get(method.split("/")[1])
            wrapped = self._wrapped[method] = _wrap(method, admit, handler)
        return wrapped


def _wrap(method: str, admit: Admit, handler: Any) -> Any:
    if handler.response_streaming:
        wrap = _wrap_stream(method, admit, handler.unary_stream or handler.stream_stream)
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
    else:
        wrap = _wrap_unary(method, admit, handler.unary_unary or handler.stream_unary)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    return make(wrap, handler.request_deserializer, handler.response_serializer)


def _wrap_unary(method: str, admit: Admit, behaviour: Any) -> Any:
    async def call(request: Any, context: Any) -> Any:
        async with _Answering(method, context) as limit, asyncio.timeout(limit):
            _admit(admit, context)
            return await behaviour(request, context)

    return call


def _wrap_stream(method: str, admit: Admit, behaviour: Any) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        async with _Answering(method, context) as limit, asyncio.timeout(limit):
            _admit(admit, context)
            async for response in behaviour(request, context):
                yield response

    return call


class _Answering:
    """Runs one call: its deadline set for those it calls, its failure told, its time taken.

    A class, because every call pays for it, and a generator would cost three times as much.
    """

    __slots__ = ("_context", "_method", "_started")

    def __init__(self, method: str, context: Any) -> None:
        self._method, self._context = method, context

    async def __aenter__(self) -> float | None:
        self._started = time.monotonic()
        return _begin(self._method, self._context)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = grpc.StatusCode.OK
        try:
            if error is not None:
                code, failure = _read(error, self._method, self._context)
                if failure:
                    await self._context.abort(code, failure.message, status.trailers(failure))
        finally:
            _count(self._method, code).inc()
            _seconds(self._method).observe(time.monotonic() - self._started)


def _read(
    error: BaseException, method: str, context: Any
) -> tuple[grpc.StatusCode, Failure | None]:
    """Return the code of what a call has raised, and the failure to tell its caller, if any."""
    if isinstance(error, Failure):
        return error.code, error
    if isinstance(error, TimeoutError):
        late = _late()
        return late.code, late
    if isinstance(error, grpc.aio.AbortError):
        return context.code(), None
    if isinstance(error, Exception):
        log.error("a call failed", extra={"method": method}, exc_info=error)
        failure = Failure("INTERNAL", "The service failed; its log says why.")
        return grpc.StatusCode.INTERNAL, failure
    return grpc.StatusCode.CANCELLED, None


@functools.cache
def _count(method: str, code: grpc.StatusCode) -> Any:
    return telemetry.CALLS.labels(method, code.name)


@functools.cache
def _seconds(method: str) -> Any:
    return telemetry.SECONDS.labels(method)


def _admit(admit: Admit, context: Any) -> None:
    if admit is not None:
        admit(str(dict(context.invocation_metadata() or ()).get("authorization", "")))


def _begin(method: str, context: Any) -> float | None:
    """Set the deadline of a call; return the seconds after which it must end, if any."""
    name = method.rpartition("/")[2]
    if "grpc.health" in method or "grpc.reflection" in method:
        return None  # Watch lasts for as long as its caller likes
    default = LONG_DEADLINE if name in LONG_CALLS else DEFAULT_DEADLINE
    left = context.time_remaining()
    seconds = default if left is None else left
    _deadline.set(time.monotonic() + seconds)
    return seconds


def _late() -> Failure:
    return DeadlineExceeded("DEADLINE_EXCEEDED", "The call's deadline has passed.")
