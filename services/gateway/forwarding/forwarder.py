"""Forwards the rpcs of a service behind the gateway, driven by the service's descriptor.

Requests and responses stay bytes unless they must be translated. Streams are forwarded message by
message. The deadline and a cancellation of the caller end the forwarded call, too.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from services import deadlines
from services.errors import Failure
from services.gateway.backends.rpc import Peer
from services.gateway.circuit_breaker import CircuitBreaker


class Translation(Protocol):
    """Translates the messages of one call."""

    async def request(self, message: Any) -> Any:
        """Return a request as the service gets it. It may raise a Failure."""

    async def response(self, message: Any) -> Any:
        """Return a response as the caller gets it."""


class NoTranslation:
    """Leaves everything as it is."""

    async def request(self, message: Any) -> Any:
        """Return the request."""
        return message

    async def response(self, message: Any) -> Any:
        """Return the response."""
        return message


async def no_translation() -> Translation:
    """Return a translation that leaves everything as it is."""
    return NoTranslation()


class _ClosedBreaker(CircuitBreaker):
    """Never opens: broken streams of one caller must not refuse the calls of others."""

    def record_failure(self) -> None:
        """Ignore a failure."""


class Forwarder:
    """Serves a service by calling it through a channel.

    Args:
        service: the descriptor of the service.
        channel: a channel to the service.
        peer: name of the service, for errors.
        translation: returns the translation of the current call.
        is_translated: whether messages of a type must be translated.
    """

    def __init__(
        self,
        service: ServiceDescriptor,
        channel: grpc.aio.Channel,
        peer: str,
        translation: Callable[[], Awaitable[Translation]] = no_translation,
        is_translated: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self._service, self._channel = service, channel
        self._peer = Peer(peer, _ClosedBreaker())
        self._translation, self._is_translated = translation, is_translated

    @property
    def name(self) -> str:
        """The full name of the service."""
        return self._service.full_name

    def register(self, server: Any) -> None:
        """Add the handlers of all methods to a server."""
        handlers = {method.name: self._handler(method) for method in self._service.methods}
        server.add_registered_method_handlers(self._service.full_name, handlers)

    def _handler(self, method: MethodDescriptor) -> Any:
        read_request, write_request = self._serializers(method.input_type)
        read_response, write_response = self._serializers(method.output_type)
        kind = "{}_{}".format(
            "stream" if method.client_streaming else "unary",
            "stream" if method.server_streaming else "unary",
        )
        call = getattr(self._channel, kind)(
            f"/{self._service.full_name}/{method.name}",
            request_serializer=write_request,
            response_deserializer=read_response,
        )
        forward: Any = self._stream if method.server_streaming else self._unary

        def behaviour(request: Any, context: Any) -> Any:
            return forward(call, request)

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(behaviour, read_request, write_response)

    def _serializers(self, descriptor: Any) -> tuple[Any, Any]:
        """Return how messages of a type are read and written; None for both if they stay bytes."""
        if not self._is_translated(descriptor):
            return None, None
        kind: Any = message_factory.GetMessageClass(descriptor)
        return kind.FromString, kind.SerializeToString

    async def _unary(self, call: Any, request: Any) -> Any:
        """Forward a call with one response."""
        translation = await self._translation()
        requests = _Requests(request, translation)
        async with self._errors(requests):
            response = await call(await requests.to_send(), timeout=deadlines.time_left())
        return await translation.response(response)

    async def _stream(self, call: Any, request: Any) -> AsyncIterator[Any]:
        """Forward a call with a stream of responses."""
        translation = await self._translation()
        requests = _Requests(request, translation)
        async with self._errors(requests):
            forwarded = call(await requests.to_send(), timeout=deadlines.time_left())
            try:
                async for response in forwarded:
                    yield await translation.response(response)
            finally:
                forwarded.cancel()  # has no effect on a call that has ended

    @contextlib.asynccontextmanager
    async def _errors(self, requests: "_Requests") -> AsyncIterator[None]:
        try:
            async with self._peer.call():
                yield
        except BaseException:
            # gRPC cancels a call whose requests end with an error.
            if requests.failure is not None:
                raise requests.failure from None
            raise


class _Requests:
    """The request or the requests of a call; ``failure`` is why they ended too early."""

    def __init__(self, request: Any, translation: Translation) -> None:
        self._request, self._translation = request, translation
        self.failure: Failure | None = None

    async def to_send(self) -> Any:
        """Return what the forwarded call gets. It may raise a Failure for a single request."""
        if hasattr(self._request, "__aiter__"):
            return self._stream()
        return await self._translation.request(self._request)

    async def _stream(self) -> AsyncIterator[Any]:
        try:
            async for request in self._request:
                yield await self._translation.request(request)
        except Failure as failure:
            self.failure = failure
            raise
