"""Reads keys of Redis: what many ask for at once is one command, on a connection of its own."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.gateway.redis_store import as_bytes

PATIENCE = 5.0


class Reads:
    """While a command is on its way, those who ask next wait for the one after it.

    So one caller waits for one trip, and many cost a trip for all of them. The connection is a
    plain one of the client's kind: its pool, and a timer for each step, would cost more than the
    trip itself.
    """

    def __init__(self, redis: Redis) -> None:
        pool = redis.connection_pool
        settings: dict[str, Any] = {**pool.connection_kwargs, "socket_timeout": None}
        self._connection: Any = pool.connection_class(**settings)
        self._waiting: list[tuple[str, asyncio.Future[bytes]]] = []
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: str) -> bytes:
        """Return a key's value, empty if there is none. Raises redis.RedisError."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        """Close the connection."""
        if self._task:
            self._task.cancel()
        await self._connection.disconnect()

    async def _run(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, []
            try:
                values = await self._read([key for key, _ in asked])
            except BaseException as error:  # whoever asked is told
                _answer(asked, _told(error))
                if isinstance(error, asyncio.CancelledError):
                    raise
            else:
                _answer(asked, values)

    async def _read(self, keys: Sequence[str]) -> Sequence[object]:
        """Read keys; a connection that was closed while it lay idle is opened again."""
        try:
            return await self._ask(keys)
        except (RedisConnectionError, OSError):
            return await self._ask(keys)

    async def _ask(self, keys: Sequence[str]) -> Sequence[object]:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.send_command("MGET", *keys)
                values: Sequence[object] = await self._connection.read_response()
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        return values


def _told(error: BaseException) -> Exception:
    if isinstance(error, TimeoutError):
        return RedisTimeoutError("no reply in time")
    if isinstance(error, Exception):
        return error
    return RedisTimeoutError("closed")


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
