"""Leases without Redis, which never expire."""

import asyncio
from collections.abc import Callable

from redis.exceptions import ConnectionError as RedisConnectionError

from services.gateway.coalescing.leases import STREAM_START, LeaseStore, Published
from services.gateway.coalescing.singleflight import Item


class FakeLeases(LeaseStore):
    """One lease in memory, shared by all replicas that are given this object."""

    def __init__(self) -> None:
        self.seconds = 10.0
        self.leader = ""
        self.items: list[tuple[str, Item]] = []
        self.is_unreachable = False
        self.waiting = 0  # replicas that have found another leader
        self._tokens = 0
        self._changed = asyncio.Condition()

    async def acquire(self, name: str) -> str:
        if self.is_unreachable:
            raise RedisConnectionError
        if self.leader:
            self.waiting += 1
            await self._notify()
            return ""
        self._tokens += 1
        self.leader, self.items = f"token-{self._tokens}", []
        return self.leader

    async def publish(self, name: str, token: str, item: Item) -> bool:
        if token != self.leader:
            return False
        self.items.append((token, item))
        await self._notify()
        return True

    async def renew(self, name: str, token: str) -> bool:
        return token == self.leader

    async def release(self, name: str, token: str) -> None:
        if token == self.leader:
            self.leader = ""
            await self._notify()

    async def read(self, name: str, position: str) -> Published:
        first = 0 if position == STREAM_START else int(position)
        return Published(self.items[first:], str(len(self.items)), self.leader)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on this object holds."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
