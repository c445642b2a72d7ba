"""How every call is answered: within its deadline, its failure told, counted and timed."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from services import deadlines, error_details, telemetry
from services.errors import Failure

log = logging.getLogger(__name__)

Admit = Callable[[str], None] | None


def wrap(method: str, admit: Admit, handler: Any) -> Any:
    """Return a handler that gives each call a deadline, tells its failure, counts and times it.

    Args:
        method: its whole name, for example ``/memetwin.search.v1.SearchService/Search``.
        admit: lets a caller in by the ``authorization`` of the call, or raises; None lets all in.
        handler: what answers, and may raise a Failure.
    """
    if handler.response_streaming:
        wrapped = _wrap_stream(
            _Method(method, admit), handler.unary_stream or handler.stream_stream
        )
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
    else:
        wrapped = _wrap_unary(_Method(method, admit), handler.unary_unary or handler.stream_unary)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _wrap_unary(method: "_Method", behaviour: Any) -> Any:
    async def call(request: Any, context: Any) -> Any:
        started = time.monotonic()
        try:
            limit = method.begin(context)
            if limit is None:
                response = await behaviour(request, context)
            else:
                async with asyncio.timeout(limit):
                    response = await behaviour(request, context)
        except BaseException as error:
            await method.fail(error, context, started)
            raise
        method.count(grpc.StatusCode.OK, started)
        return response

    return call


def _wrap_stream(method: "_Method", behaviour: Any) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        started = time.monotonic()
        try:
            async with asyncio.timeout(method.begin(context)):
                async for response in behaviour(request, context):
                    yield response
        except BaseException as error:
            await method.fail(error, context, started)
            raise
        method.count(grpc.StatusCode.OK, started)

    return call


class _Method:
    """One method: how long its calls may take, who may call, and what became of them."""

    def __init__(self, name: str, admit: Admit) -> None:
        self._name, self._admit = name, admit
        long = name.rpartition("/")[2] in deadlines.LONG_CALLS
        self._limit: float | None = deadlines.LONG_DEADLINE if long else deadlines.DEFAULT_DEADLINE
        if "grpc.health" in name or "grpc.reflection" in name:
            self._limit = None  # Watch lasts for as long as its caller likes
        self._seconds = telemetry.SECONDS.labels(name)

    def begin(self, context: Any) -> float | None:
        """Set a call's deadline, and let its caller in.

        Return the seconds after which to end it; None where nobody need: the library ends a call at
        its caller's own deadline.
        """
        own = context.time_remaining()
        seconds = self._limit if own is None else own
        if self._limit is not None and seconds is not None:
            deadlines.begin(seconds)
        if self._admit is not None:
            self._admit(str(dict(context.invocation_metadata() or ()).get("authorization", "")))
        return self._limit if own is None else None

    async def fail(self, error: BaseException, context: Any, started: float) -> None:
        """Count a call that has raised, and tell its caller why, if there is something to tell."""
        code, failure = self._read(error, context)
        self.count(code, started)
        if failure:
            await context.abort(code, failure.message, error_details.trailers(failure))

    def _read(self, error: BaseException, context: Any) -> tuple[grpc.StatusCode, Failure | None]:
        """Return the code of what a call has raised, and the failure to tell its caller, if any."""
        if isinstance(error, Failure):
            return error.code, error
        if isinstance(error, TimeoutError):
            late = deadlines.late()
            return late.code, late
        if isinstance(error, grpc.aio.AbortError):
            return context.code(), None
        if isinstance(error, Exception):
            log.error("a call failed", extra={"method": self._name}, exc_info=error)
            failure = Failure("INTERNAL", "The service failed; its log says why.")
            return failure.code, failure
        passed = deadlines.has_passed()
        return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED, None

    def count(self, code: grpc.StatusCode, started: float) -> None:
        """Count a call that has ended."""
        _count(self._name, code).inc()
        self._seconds.observe(time.monotonic() - started)


@functools.cache
def _count(method: str, code: grpc.StatusCode) -> Any:
    return telemetry.CALLS.labels(method, code.name)
