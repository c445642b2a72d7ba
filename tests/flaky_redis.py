"""A TCP proxy in front of Redis that breaks connections at random."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class FlakyRedis:
    """Passes commands on, and breaks the connection of a ``share`` of them.

    Half of those commands reach Redis, and only their replies are lost. A client writes each
    command in one piece, so a piece counts as a command.

    Attributes:
        url: the address of the proxy.
        share: the share of the commands that fail.
        failures: how many commands have failed.
    """

    def __init__(self, url: str, share: float, seed: int) -> None:
        self.url = url
        self.share, self.failures = share, 0
        self._target = urlsplit(url)
        self._random = random.Random(seed)

    async def listen(self) -> asyncio.Server:
        """Start the proxy, and set ``url``."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = self._target._replace(netloc=f"127.0.0.1:{port}").geturl()
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            replies, commands = await asyncio.open_connection(
                self._target.hostname, self._target.port
            )
            copying = asyncio.create_task(_copy(replies, writer))
            try:
                await self._copy_commands(reader, commands, copying)
            finally:
                copying.cancel()
                commands.close()
        writer.close()

    async def _copy_commands(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        replies: "asyncio.Task[None]",
    ) -> None:
        while data := await reader.read(2**20):
            fails = self._random.random() < self.share
            if fails:
                self.failures += 1
                replies.cancel()
            if not fails or self._random.random() < 0.5:
                writer.write(data)
                await writer.drain()
            if fails:
                return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**20):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def running(url: str, share: float, seed: int) -> AsyncIterator[FlakyRedis]:
    """Run a proxy in front of the Redis at ``url``."""
    one = FlakyRedis(url, share, seed)
    server = await one.listen()
    try:
        yield one
    finally:
        server.close()
