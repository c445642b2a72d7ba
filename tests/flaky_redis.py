"""A TCP proxy in front of Redis that breaks connections at random."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class FlakyRedis:
    """Runs in a thread. ``share`` of the commands break their connection.

    Half of those commands reach Redis, and only their replies are lost. A client writes each
    command in one piece, so a piece counts as a command.

    Attributes:
        url: the address of the proxy.
        share: the share of the commands that fail.
        failures: how many commands have failed.
    """

    def __init__(self, url: str, share: float, seed: int) -> None:
        target = urlsplit(url)
        self.share, self.failures = share, 0
        self._target = target.hostname or "", target.port or 6379
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = target._replace(netloc=f"127.0.0.1:{port}").geturl()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            redis_reader, redis_writer = await asyncio.open_connection(*self._target)
            replies = asyncio.create_task(_copy(redis_reader, writer))
            try:
                await self._copy_commands(reader, redis_writer, replies)
            finally:
                replies.cancel()
                redis_writer.close()
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


@contextlib.contextmanager
def running(url: str, share: float, seed: int) -> Iterator[FlakyRedis]:
    """Run a proxy in front of the Redis at ``url``."""
    one = FlakyRedis(url, share, seed)
    try:
        yield one
    finally:
        one.close()
