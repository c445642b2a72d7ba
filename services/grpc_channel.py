"""Opens gRPC channels the same way everywhere: message limits, load balancing, retries, TLS."""

import asyncio
import json
from typing import Any

import grpc

from services import tls
from services.settings import TlsFiles

MESSAGE_LIMIT = 64 * 2**20
MESSAGE_LIMITS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
]
# gRPC retries a call that fails with UNAVAILABLE if the server has not sent response headers. This
# includes streams (gRFC A6). The server may have executed the failed attempt, so a call can run
# more than once.
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


# A ping without an answer closes the connection, so that calls to a machine that has disappeared
# end. By default gRPC sends no more than two pings while a call is silent; 0 lifts that limit.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]


_OPTIONS: list[tuple[str, Any]] = [
    *MESSAGE_LIMITS,
    *KEEPALIVE,
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.initial_reconnect_backoff_ms", 200),
]


def dial(address: str, files: TlsFiles | None = None) -> grpc.aio.Channel:
    """Open a channel that balances calls over all addresses and retries UNAVAILABLE.

    Args:
        address: the address of the server.
        files: if they contain the certificates of a CA, the channel uses TLS.
    """
    if files and files.ca:
        return ReloadingChannel(address, files)
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def dial_blocking(address: str, files: TlsFiles) -> grpc.Channel:
    """Open a channel of the blocking API for a command, with TLS if there are certificates of a CA.

    Raises:
        SettingError: the files are not valid.
    """
    options = [*MESSAGE_LIMITS, *KEEPALIVE]
    if not files.ca:
        return grpc.insecure_channel(address, options=options)
    tls.validate(files)
    return grpc.secure_channel(address, tls.channel_credentials(files), options=options)


class ReloadingChannel(grpc.aio.Channel):
    """A channel over TLS. When the files change, new calls use a new connection with them.

    Calls in progress continue on the old connection, which is closed after the last of them.
    """

    def __init__(self, address: str, files: TlsFiles) -> None:
        self._open: set[_Connection] = set()
        self._watched = tls.Watched(files.names, lambda: self._connect(address, files))
        self._current = self._watched.get()

    def _connect(self, address: str, files: TlsFiles) -> "_Connection":
        credentials = tls.channel_credentials(files)
        connection = _Connection(grpc.aio.secure_channel(address, credentials, options=_OPTIONS))
        self._open.add(connection)
        return connection

    def current(self) -> "_Connection":
        """Return the connection for new calls."""
        current = self._watched.get()
        if current is not self._current:
            old, self._current = self._current, current
            old.retire()
            self._open = {one for one in self._open if not one.closed}
        return current

    async def __aenter__(self) -> "ReloadingChannel":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close all connections."""
        for connection in list(self._open):
            await connection.channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the connection for new calls."""
        return self.current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state of the connection for new calls differs."""
        await self.current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the connection for new calls is ready."""
        await self.current().channel.channel_ready()

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return self._method("unary_unary", args, options)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return self._method("unary_stream", args, options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return self._method("stream_unary", args, options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """Return a callable for a method."""
        return self._method("stream_stream", args, options)

    def _method(self, kind: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        connection = self.current()
        method = getattr(connection.channel, kind)(*args, **options)

        def call(*call_args: Any, **call_options: Any) -> Any:
            nonlocal connection, method
            current = self.current()
            if current is not connection:
                connection, method = current, getattr(current.channel, kind)(*args, **options)
            return connection.follow(method(*call_args, **call_options))

        return call


class _Connection:
    """A channel with the number of its calls in progress."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel, self.closed = channel, False
        self._calls, self._retired = 0, False
        self._closing: asyncio.Task[None] | None = None

    def follow(self, call: Any) -> Any:
        """Count a call until it is done, and return it."""
        self._calls += 1
        call.add_done_callback(self._done)
        return call

    def retire(self) -> None:
        """Close the channel after its last call."""
        self._retired = True
        self._close_if_unused()

    def _done(self, call: Any) -> None:
        self._calls -= 1
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._retired and not self._calls and not self.closed:
            self.closed = True
            self._closing = asyncio.ensure_future(self.channel.close())
