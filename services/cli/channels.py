"""Where commands find the services, and with what key."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import grpc

LIMIT = 64 * 2**20


def channel(address: str) -> grpc.Channel:
    """Open a channel that takes messages as large as the services send."""
    options = [("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", LIMIT)]
    return grpc.insecure_channel(address, options=options)


def gateway_channel(address: str) -> grpc.Channel:
    """Open a channel to the gateway; calls carry the key of ``MEMETWIN_API_KEY``, if it is set."""
    key = os.environ.get("MEMETWIN_API_KEY")
    return grpc.intercept_channel(channel(address), _WithKey(key)) if key else channel(address)


class _Details(NamedTuple):
    """What a call is made with; gRPC asks for such an object, but has no class of its own."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _WithKey(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends an API key with every call."""

    def __init__(self, key: str) -> None:
        self._header = ("authorization", f"Bearer {key}")

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), self._header]
        given = (getattr(details, name, None) for name in _Details._fields)
        return continuation(_Details._make(given)._replace(metadata=metadata), request)

    intercept_unary_unary: Any = _call
    intercept_unary_stream: Any = _call
    intercept_stream_unary: Any = _call
    intercept_stream_stream: Any = _call


def search_option() -> Callable[[Any], Any]:
    """Return the option that names the search service."""
    return click.option(
        "--search",
        default=lambda: os.environ.get("MEMETWIN_SEARCH_ADDRESS") or "127.0.0.1:50052",
        show_default="MEMETWIN_SEARCH_ADDRESS, else 127.0.0.1:50052",
        help="Address of the search service.",
    )
