"""Serves the HTTP application in the same event loop as gRPC."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette


class _Server(uvicorn.Server):
    """Installs no signal handlers, because those of the gRPC server end the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(application: Starlette, host: str, port: int) -> AsyncIterator[int]:
    """Serve HTTP until the block ends; yield the port. Raises OSError if the port is taken."""
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off")
    server = _Server(config)
    sockets = await asyncio.get_running_loop().run_in_executor(None, listen, host, port)
    task = asyncio.create_task(server.serve(sockets=[sockets]))
    try:
        yield sockets.getsockname()[1]
    finally:
        server.should_exit = True
        await task


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises OSError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)
