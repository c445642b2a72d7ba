"""Opens the commands' channels to the services: addresses, message limits and the API key."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import grpc

from services.grpc_channel import dial_blocking
from services.settings import CommonSettings, SettingError, from_env


def channel(address: str) -> grpc.Channel:
    """Open a channel with the message limits and the keepalive pings of the services.

    It uses TLS if ``MEMETWIN_TLS_CA`` is set, and then shows ``MEMETWIN_TLS_CERT``, if set.
    """
    try:
        return dial_blocking(address, from_env(CommonSettings, os.environ).tls)
    except SettingError as error:
        raise click.ClickException(str(error)) from error


def gateway_channel(address: str) -> grpc.Channel:
    """Open a channel to the gateway that sends the API key of ``MEMETWIN_API_KEY``, if set."""
    key = os.environ.get("MEMETWIN_API_KEY")
    return grpc.intercept_channel(channel(address), _ApiKeySender(key)) if key else channel(address)


class _CallDetails(NamedTuple):
    """The details of an outgoing call; gRPC defines this interface without a public class."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _ApiKeySender(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the API key to the metadata of every call."""

    def __init__(self, key: str) -> None:
        self._header = ("authorization", f"Bearer {key}")

    def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        values = (getattr(details, name, None) for name in _CallDetails._fields)
        metadata = [*(details.metadata or ()), self._header]
        return continuation(_CallDetails._make(values)._replace(metadata=metadata), request)

    intercept_unary_unary: Any = _intercept
    intercept_unary_stream: Any = _intercept
    intercept_stream_unary: Any = _intercept
    intercept_stream_stream: Any = _intercept


def search_option() -> Callable[[Any], Any]:
    """Return the option for the address of the search service."""
    return click.option(
        "--search",
        default=lambda: os.environ.get("MEMETWIN_SEARCH_ADDRESS") or "127.0.0.1:50052",
        show_default="MEMETWIN_SEARCH_ADDRESS or 127.0.0.1:50052",
        help="Address of the search service.",
    )
