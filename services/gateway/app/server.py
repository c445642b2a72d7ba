"""Serves the HTTP application in the same event loop as gRPC."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette

from services import tls
from services.settings import TlsFiles


class _Server(uvicorn.Server):
    """A server whose TLS reads changed files again.

    It installs no signal handlers, because those of the gRPC server end the process.
    """

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
        self._config = uvicorn.Config(
            application, log_config=None, access_log=False, lifespan="off"
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
