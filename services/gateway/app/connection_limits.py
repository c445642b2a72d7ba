"""Bounds the connections of the HTTP server: how many there are, and how slow they may be.

A connection waits while it serves no request: before its first request, between two requests, and
while the client sends a body that nobody reads. It may wait for seconds, however many bytes arrive
meanwhile. If there are too many connections, the one that has waited longest is closed for a new
one, so that idle and slow clients do not keep others out.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.errors import InvalidArgument
from services.gateway.http.errors import failure_response

MAX_CONNECTIONS = 2000
MAX_CONNECTIONS_OF_PEER = 1000
# Seconds for a TLS handshake, and then for a request line and its headers.
HANDSHAKE_TIMEOUT = 10.0
HEADER_TIMEOUT = 10.0
# A client must read at least this many bytes of a response per second, on average over a while.
MIN_READ_RATE = 1024
STALL_TIMEOUT = 30.0
SWEEP_INTERVAL = 1.0
# A connection is not closed for another one before it has waited for so many seconds.
MIN_WAIT = 1.0


class ConnectionLimits:
    """The connections of one server."""

    def __init__(self) -> None:
        self.connections: set[LimitedProtocol] = set()
        self._peers: dict[str, set[LimitedProtocol]] = {}
        # Since when each connection waits, in this order; for all, and for each peer.
        self._waiting: dict[LimitedProtocol, float] = {}
        self._waiting_of_peers: dict[str, dict[LimitedProtocol, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def accept(self, connection: "LimitedProtocol") -> bool:
        """Return whether there is room for a new connection. If not, it must be closed."""
        peer = connection.peer
        of_peer = self._peers.get(peer, set())
        if len(of_peer) >= MAX_CONNECTIONS_OF_PEER:
            if not self._make_room(self._waiting_of_peers.get(peer, {})):
                return False
        elif len(self.connections) >= MAX_CONNECTIONS and not self._make_room(self._waiting):
            return False
        self.connections.add(connection)
        self._peers.setdefault(peer, set()).add(connection)
        self.begin_wait(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(SWEEP_INTERVAL, self._sweep)
        return True

    def remove(self, connection: "LimitedProtocol") -> None:
        """Forget a connection that is closed."""
        self.end_wait(connection)
        self.connections.discard(connection)
        of_peer = self._peers.get(connection.peer, set())
        of_peer.discard(connection)
        if not of_peer:
            self._peers.pop(connection.peer, None)

    def begin_wait(self, connection: "LimitedProtocol") -> None:
        """Note that a connection serves no request from now on."""
        if connection in self.connections and connection not in self._waiting:
            now = connection.loop.time()
            self._waiting[connection] = now
            self._waiting_of_peers.setdefault(connection.peer, {})[connection] = now

    def end_wait(self, connection: "LimitedProtocol") -> None:
        """Note that a connection serves a request."""
        if self._waiting.pop(connection, None) is not None:
            of_peer = self._waiting_of_peers[connection.peer]
            del of_peer[connection]
            if not of_peer:
                del self._waiting_of_peers[connection.peer]

    def _make_room(self, waiting: "dict[LimitedProtocol, float]") -> bool:
        """Close the connection that has waited longest. Return whether there was one."""
        oldest = next(iter(waiting), None)
        if oldest is None or oldest.loop.time() - waiting[oldest] < MIN_WAIT:
            return False
        self.remove(oldest)
        oldest.transport.abort()
        return True

    def _sweep(self) -> None:
        self._timer = None
        for connection, since in list(self._waiting.items()):
            now = connection.loop.time()
            if now - since < HEADER_TIMEOUT:
                break  # the others have waited for a shorter time
            self.remove(connection)
            connection.time_out()
        for connection in list(self.connections):
            if connection.is_stalled():
                connection.transport.abort()
        if self.connections:
            loop = next(iter(self.connections)).loop
            self._timer = loop.call_later(SWEEP_INTERVAL, self._sweep)


class LimitedProtocol(H11Protocol):
    """Serves one connection within the limits.

    Args:
        limits: the limits that all connections share.
        options: what uvicorn passes.
    """

    def __init__(self, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self.peer = ""
        # The size of the write buffer at a time, while the client does not read fast enough.
        self._stall: tuple[float, int] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, or close it if there is no room."""
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        if not self._limits.accept(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._limits.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        self._update()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        super().on_response_complete()
        self._update()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            failure = InvalidArgument(
                "BAD_REQUEST", "The request is not valid HTTP. Check its request line and headers."
            )
            response = failure_response("/v1/", failure)
            headers = [*response.raw_headers, (b"connection", b"close")]
            for event in (
                h11.Response(status_code=response.status_code, headers=headers),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def time_out(self) -> None:
        """Close a connection whose request has not arrived in time."""
        if self.cycle is None and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # the client does not read
        else:
            self.transport.close()

    def is_stalled(self) -> bool:
        """Return whether the client has read too little of a response for a while."""
        if not self.flow.write_paused:
            self._stall = None
            return False
        now, size = self.loop.time(), self.transport.get_write_buffer_size()
        if self._stall is None:
            self._stall = now, size
        since, before = self._stall
        if now - since < STALL_TIMEOUT:
            return False
        self._stall = now, size
        return before - size < MIN_READ_RATE * STALL_TIMEOUT

    def _update(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._limits.begin_wait(self)
        else:
            self._limits.end_wait(self)
