"""The token with which the embedder and search recognise the gateway."""

import hmac
import logging
from pathlib import Path
from typing import Any

import grpc

from services.errors import Unauthenticated
from services.interceptor import Authenticate
from services.settings import CommonSettings, SettingError, host_port

log = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def read_token(settings: CommonSettings) -> str:
    """Return the token of the settings; empty if there is none.

    Raises:
        SettingError: both settings are set, or the file cannot be read or is empty.
    """
    token, file = settings.service_token, settings.service_token_file
    if token and file:
        raise SettingError(
            "Set either MEMETWIN_SERVICE_TOKEN or MEMETWIN_SERVICE_TOKEN_FILE, not both."
        )
    if not file:
        return token
    try:
        content = Path(file).read_text().strip()
    except (OSError, ValueError) as error:
        raise SettingError(f"Cannot read MEMETWIN_SERVICE_TOKEN_FILE={file!r}: {error}") from error
    if not content:
        raise SettingError(f"MEMETWIN_SERVICE_TOKEN_FILE={file!r} is empty.")
    return content


def authenticator(settings: CommonSettings, listen: str) -> Authenticate:
    """Return what refuses calls without the token; None if there is no token.

    Args:
        settings: the settings of a service behind the gateway.
        listen: the address that the service listens on. A service that others can reach without a
            token and without certificates logs a warning.
    """
    token = read_token(settings)
    if token:
        return _Check(token).authenticate
    if host_port(listen)[0] not in _LOOPBACK and not settings.tls_client_ca:
        log.warning(
            "everyone who can reach %s can use this service; set MEMETWIN_SERVICE_TOKEN here and at"
            " the gateway, or MEMETWIN_TLS_CLIENT_CA",
            listen,
        )
    return None


class _Check:
    """Compares tokens. Its representation does not contain the token."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def authenticate(self, method: str, authorization: str) -> None:
        if not hmac.compare_digest(authorization.encode(), self._expected):
            raise Unauthenticated(
                "UNKNOWN_SERVICE_TOKEN",
                "Only the gateway may call this service. Call the gateway, or send the header"
                " Authorization: Bearer TOKEN with the token of MEMETWIN_SERVICE_TOKEN.",
            )


def with_token(channel: grpc.aio.Channel, token: str) -> grpc.aio.Channel:
    """Return a channel that sends a token with each call; the same channel if it is empty."""
    return _TokenChannel(channel, token) if token else channel


class _TokenChannel(grpc.aio.Channel):
    """Calls through another channel, and adds the token to the metadata.

    An interceptor of gRPC would start a task for each call.
    """

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel, self._header = channel, ("authorization", f"Bearer {token}")

    async def __aenter__(self) -> "_TokenChannel":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        return self._with_header(self._channel.unary_unary(*args, **options))

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        return self._with_header(self._channel.unary_stream(*args, **options))

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return self._with_header(self._channel.stream_unary(*args, **options))

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return self._with_header(self._channel.stream_stream(*args, **options))

    def _with_header(self, method: Any) -> Any:
        def call(*args: Any, metadata: Any = (), **options: Any) -> Any:
            return method(*args, metadata=(*(metadata or ()), self._header), **options)

        return call
