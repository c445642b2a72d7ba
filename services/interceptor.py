"""Wraps every gRPC handler: deadline, authentication, errors, metrics."""

import asyncio
import contextlib
import contextvars
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Set
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from services import deadlines, error_details, telemetry, tls
from services.call_limits import Call, CallLimits
from services.errors import Failure, InvalidArgument, Unauthenticated

log = logging.getLogger(__name__)

# What a call runs inside, after its authentication: it may still refuse or end the call.
Admission = AbstractAsyncContextManager[None]
Authenticate = Callable[[str, str], Admission | None] | None
_NO_ADMISSION: Admission = contextlib.nullcontext()
_admission: contextvars.ContextVar[Admission | None] = contextvars.ContextVar(
    "admission", default=None
)


class Handlers(grpc.GenericRpcHandler):
    """The wrapped handlers of a service. It authenticates a caller before it reads a message.

    Args:
        handlers: the handlers by full method name. Without any, each method is unknown.
        authenticate: gets the method, which is empty for a service without rights, and the
            ``authorization`` header. It raises a Failure to refuse the call, and may return what
            the call runs inside. None admits every caller.
    """

    def __init__(self, handlers: Mapping[str, Any], authenticate: Authenticate = None) -> None:
        self._handlers, self._authenticate = handlers, authenticate

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a call, or None for a method of another service."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if self._authenticate is None or (handler is None and self._handlers):
            return handler
        metadata = dict(handler_call_details.invocation_metadata or ())
        try:
            # gRPC calls the handler in this task.
            _admission.set(self._authenticate(method, str(metadata.get("authorization", ""))))
        except Failure as failure:
            return _refusal(method if handler else "unknown", failure)
        return handler


def _refusal(method: str, failure: Failure) -> Any:
    """Return a handler that refuses a call. It reads no message, whatever the client sends."""

    async def refuse(requests: Any, context: Any) -> NoReturn:
        started = time.monotonic()
        await _Rpc(method).abort(failure, context, started)
        raise failure

    return grpc.stream_stream_rpc_method_handler(refuse)


def wrap_handler(
    method: str,
    handler: Any,
    max_request_bytes: int = 2**31,
    limits: CallLimits | None = None,
    owner: Callable[[], str] = str,
) -> Any:
    """Return a handler that gives each call a deadline, returns its error, and measures it.

    A call runs inside the admission that its authentication has returned. The wrapped handler reads
    the request message itself, so that the limits apply before there is a message.

    Args:
        method: full method name, for example ``/memetwin.search.v1.SearchService/Search``.
        handler: an ``RpcMethodHandler`` whose behaviour may raise a Failure. A streamed response
            comes from an async generator.
        max_request_bytes: a call with a larger request message fails before the message is parsed.
        limits: the limits that the method shares with others.
        owner: returns whose share of the limits the current call uses; empty for no share.
    """
    rpc = _Rpc(method)
    reader = _Reader(handler, max_request_bytes, limits or CallLimits(), owner)
    if handler.response_streaming:
        wrapped = _wrap_stream(rpc, reader, handler.unary_stream or handler.stream_stream)
        make = grpc.stream_stream_rpc_method_handler
    else:
        wrapped = _wrap_unary(rpc, reader, handler.unary_unary or handler.stream_unary)
        make = grpc.stream_unary_rpc_method_handler
    return make(wrapped, None, handler.response_serializer)


def wrap_for_clients(method: str, wrapped: Any, names: Set[str]) -> Any:
    """Return a wrapped handler that refuses clients whose certificate has none of some names."""
    behaviour = wrapped.stream_unary or wrapped.stream_stream

    async def call(requests: Any, context: Any) -> Any:
        if not tls.has_name(context.auth_context(), names):
            failure = Unauthenticated(
                "UNKNOWN_CLIENT",
                "The client's certificate has no name that this service accepts. Its operator must"
                " list one of the names in MEMETWIN_TLS_CLIENT_NAMES.",
            )
            await _Rpc(method).abort(failure, context, time.monotonic())
        return await behaviour(requests, context)

    kind = "stream_unary" if wrapped.stream_unary else "stream_stream"
    return wrapped._replace(**{kind: call})


class _Reader:
    """Reads the requests of a method within its limits.

    A message with many empty elements takes a hundred times its size in memory, and seconds to
    parse. So a message that is too large is not parsed.
    """

    def __init__(
        self, handler: Any, max_bytes: int, limits: CallLimits, owner: Callable[[], str]
    ) -> None:
        self._takes_stream = handler.request_streaming
        self._deserialize = handler.request_deserializer or bytes
        self._max_bytes, self._limits, self._owner = max_bytes, limits, owner

    def open(self) -> Call:
        """Return a call of the current caller. Raises Overloaded if there are too many."""
        return self._limits.open(self._owner())

    async def read(self, call: Call, requests: Any, context: Any) -> Any:
        """Return the request message of a call, or the stream of its messages."""
        if self._takes_stream:
            return self._stream(call, requests)
        data = await call.receive(context.read, self._max_bytes)
        if data is grpc.aio.EOF:
            raise InvalidArgument("NO_MESSAGE", "The call has no request message. Send one.")
        return self._parse(call, data)

    async def _stream(self, call: Call, requests: Any) -> AsyncIterator[Any]:
        async for data in requests:
            yield self._parse(call, data)

    def _parse(self, call: Call, data: bytes) -> Any:
        size, limit = len(data), self._max_bytes
        if size > limit:
            raise InvalidArgument(
                "REQUEST_TOO_LARGE",
                f"The request message has {size} bytes. Send at most {limit}.",
                size=size,
                limit=limit,
            )
        call.hold(size)
        try:
            return self._deserialize(data)
        except DecodeError as error:
            raise InvalidArgument(
                "BAD_MESSAGE",
                "The request is not a valid message of the method's type. Check the proto.",
            ) from error


def _wrap_unary(rpc: "_Rpc", reader: _Reader, behaviour: Any) -> Any:
    async def call(requests: Any, context: Any) -> Any:
        started = time.monotonic()
        try:
            with reader.open() as held:
                timeout = rpc.begin(context)
                if timeout is None and _admission.get() is None:
                    request = await reader.read(held, requests, context)
                    response = await behaviour(request, context)
                else:
                    async with asyncio.timeout(timeout), _admission.get() or _NO_ADMISSION:
                        request = await reader.read(held, requests, context)
                        response = await behaviour(request, context)
        except BaseException as error:
            await rpc.abort(error, context, started)
            raise
        rpc.record(grpc.StatusCode.OK, started)
        return response

    return call


def _wrap_stream(rpc: "_Rpc", reader: _Reader, behaviour: Any) -> Any:
    # The wrapper writes the responses itself. In a generator, a timeout around ``yield`` would
    # cancel the task while gRPC's code runs, and nothing there turns the cancellation into a
    # status.
    async def call(requests: Any, context: Any) -> None:
        started = time.monotonic()
        try:
            with reader.open() as held:
                async with (
                    asyncio.timeout(rpc.begin(context)),
                    _admission.get() or _NO_ADMISSION,
                ):
                    request = await reader.read(held, requests, context)
                    async with contextlib.aclosing(behaviour(request, context)) as responses:
                        async for response in responses:
                            await context.write(response)
        except BaseException as error:
            await rpc.abort(error, context, started)
            raise
        rpc.record(grpc.StatusCode.OK, started)

    return call


class _Rpc:
    """One method: the default deadline of its calls, their errors and their metrics."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._default_timeout = deadlines.default_timeout(method)
        self._duration = telemetry.RPC_SECONDS.labels(method)

    def begin(self, context: Any) -> float | None:
        """Set the deadline of a call.

        Return the timeout in seconds that the wrapper must enforce. It is None for a call with its
        own deadline, because gRPC itself ends such a call.
        """
        remaining = context.time_remaining()
        timeout = self._default_timeout if remaining is None else remaining
        if self._default_timeout is not None and timeout is not None:
            deadlines.start(timeout)
        return self._default_timeout if remaining is None else None

    async def abort(self, error: BaseException, context: Any, started: float) -> None:
        """Record a call that raised, and send its caller the status, unless gRPC has sent one."""
        code, failure = self._status(error, context)
        self.record(code, started)
        if failure:
            await context.abort(code, failure.message, error_details.trailers(failure))

    def _status(self, error: BaseException, context: Any) -> tuple[grpc.StatusCode, Failure | None]:
        """Return the code to record, and the failure to send if the caller needs one."""
        if isinstance(error, Failure):
            return error.code, error
        if isinstance(error, TimeoutError):
            exceeded = deadlines.exceeded()
            return exceeded.code, exceeded
        if isinstance(error, grpc.aio.AbortError):
            return context.code(), None
        if isinstance(error, Exception):
            log.error("RPC failed", extra={"method": self._method}, exc_info=error)
            failure = Failure("INTERNAL", "The service has an internal error. Its log shows why.")
            return failure.code, failure
        expired = deadlines.expired()
        return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED, None

    def record(self, code: grpc.StatusCode, started: float) -> None:
        """Count a call that has ended and observe its duration."""
        _counter(self._method, code).inc()
        self._duration.observe(time.monotonic() - started)


@functools.cache
def _counter(method: str, code: grpc.StatusCode) -> Any:
    return telemetry.RPCS.labels(method, code.name)
