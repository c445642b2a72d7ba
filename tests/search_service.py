"""The search service in a thread of this process, on its own port."""

import asyncio
import contextlib
import threading
from concurrent.futures import Future

from services import grpc_server
from services.search.__main__ import wire
from services.search.settings import Settings
from tests.stack import channel


class SearchService:
    """Runs until closed. ``channel`` leads to it."""

    def __init__(self, redis_url: str) -> None:
        self._settings = Settings(redis_url=redis_url, listen="127.0.0.1:0")
        started: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        self.channel = channel(f"127.0.0.1:{started.result(60)}")

    def close(self) -> None:
        self.channel.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    async def _run(self, started: "Future[int]") -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            service_specs = await stack.enter_async_context(wire(self._settings))
            server = await stack.enter_async_context(
                grpc_server.Server(service_specs, self._settings.listen)
            )
            started.set_result(server.port)
            await self._stop.wait()
