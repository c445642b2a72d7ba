"""Serves the HTTP application in the same event loop as gRPC."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

from services import tls
from services.gateway.app.connection_limits import (
    HANDSHAKE_TIMEOUT,
    ConnectionLimits,
    LimitedProtocol,
)
from services.settings import TlsFiles


class _Server(uvicorn.Server):
    """A server that bounds the time of TLS handshakes.

    It installs no signal handlers, because those of the gRPC server end the process.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on the sockets."""
        config, loop = self.config, asyncio.get_running_loop()
        make: Any = config.http_protocol_class
        protocol = functools.partial(
            make, config=config, server_state=self.server_state, app_state={}
        )
        timeout = HANDSHAKE_TIMEOUT if config.ssl else None
        self.servers = [
            await loop.create_server(
                protocol,
                sock=one,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=timeout,
            )
            for one in sockets or []
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """A running HTTP server. It stops in the same steps as the gRPC server of its process."""

    def __init__(
        self, application: Starlette, listener: socket.socket, files: TlsFiles | None
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self._application = application
        self.connection_limits = ConnectionLimits()
        protocol: Any = functools.partial(LimitedProtocol, self.connection_limits)
        self._config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
        )
        self._config.load()
        if files and files.cert:
            self._config.ssl = tls.ServerContext.of(files)
        self._server = _Server(self._config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    def report_stopping(self) -> None:
        """Let ``/readyz`` return 503 from now on. Everything else is still served."""
        self._application.state.is_stopping = True

    async def stop(self, grace: float) -> None:
        """Refuse new connections, give requests ``grace`` seconds to end, and cut off the rest."""
        self._config.timeout_graceful_shutdown = grace  # type: ignore[assignment] # a float works
        self._server.should_exit = True
        await self._task
        for connection in list(self._server.server_state.connections):
            connection.transport.close()


@contextlib.asynccontextmanager
async def serve(
    application: Starlette, host: str, port: int, files: TlsFiles | None = None
) -> AsyncIterator[HttpServer]:
    """Serve HTTP until the block ends, over TLS if ``files`` have a certificate.

    Raises OSError if the port is taken.
    """
    listener = await asyncio.get_running_loop().run_in_executor(None, listen, host, port)
    server = HttpServer(application, listener, files)
    try:
        yield server
    finally:
        await server.stop(0.1)  # without any time, uvicorn reports 0 cancelled tasks as an error


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises OSError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)
