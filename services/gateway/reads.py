"""Reads keys of Redis: what many ask for at once is one command."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis

from services.gateway.records import as_bytes


class Reads:
    """While a command is on its way, those who ask next wait for the one after it.

    So one caller waits for one trip, and many cost a trip for all of them.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: list[tuple[str, asyncio.Future[bytes]]] = []
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: str) -> bytes:
        """Return a key's value, empty if there is none. Raises redis.RedisError."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, []
            try:
                values = await self._redis.mget([key for key, _ in asked])
            except Exception as error:  # whoever asked is told
                _answer(asked, error)
            else:
                _answer(asked, values)


def _answer(
    asked: Sequence[tuple[str, asyncio.Future[bytes]]], values: Sequence[object] | Exception
) -> None:
    for place, (_, future) in enumerate(asked):
        if future.done():  # who asked has left
            continue
        if isinstance(values, Exception):
            future.set_exception(values)
        else:
            future.set_result(as_bytes(values[place]))
