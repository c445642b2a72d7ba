"""Opens the commands' channels to the services: addresses, message limits and the API key."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import click
import grpc

from services.grpc_channel import dial_blocking
from services.service_token import read_token
from services.settings import CommonSettings, SettingError, from_env


def channel(address: str) -> grpc.Channel:
    """Open a channel with the message limits and the keepalive pings of the services.

    It uses TLS if ``MEMETWIN_TLS_CA`` is set, and then shows ``MEMETWIN_TLS_CERT``, if set.
    """
    try:
        return dial_blocking(address, from_env(CommonSettings, os.environ).tls)
    except SettingError as error:
        raise click.ClickException(str(error)) from error


def search_channel(address: str) -> grpc.Channel:
    """Open a channel to the search service, or to the gateway, which serves search, too.

    It sends the service token, if set, or else the API key of ``MEMETWIN_API_KEY``, if set.
    """
    try:
        token = read_token(from_env(CommonSettings, os.environ))
    except SettingError as error:
        raise click.ClickException(str(error)) from error
    token = token or os.environ.get("MEMETWIN_API_KEY", "")
    opened = channel(address)
    return grpc.intercept_channel(opened, _ApiKeySender(token)) if token else opened


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
        default=lambda: search_address(os.environ),
        show_default="MEMETWIN_SEARCH_ADDRESS, the gateway if MEMETWIN_API_KEY is set, or"
        " 127.0.0.1:50052",
        help="Address of the search service, or of the gateway.",
    )


def search_address(environ: Mapping[str, str]) -> str:
    """Return the address that the environment names for search.

    With an API key and without a service token, it is that of the gateway.
    """
    has_token = environ.get("MEMETWIN_SERVICE_TOKEN") or environ.get("MEMETWIN_SERVICE_TOKEN_FILE")
    address = environ.get("MEMETWIN_SEARCH_ADDRESS")
    if not address and environ.get("MEMETWIN_API_KEY") and not has_token:
        address = environ.get("MEMETWIN_GATEWAY_ADDRESS") or "127.0.0.1:50050"
    return address or "127.0.0.1:50052"
