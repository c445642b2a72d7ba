"""Leases without Redis, which never expire."""

import asyncio
from collections.abc import Callable, Sequence

from redis.exceptions import ConnectionError as RedisConnectionError

from services.gateway.coalescing.leases import STREAM_START, Batch, LeaseStore, Published
from services.gateway.coalescing.singleflight import Item


class FakeLeases(LeaseStore):
    """One lease in memory, shared by all replicas that are given this object.

    Attributes:
        leader: the token of the leader, or an empty string.
        batches: what the leader has published.
        is_unreachable: makes ``acquire`` fail.
        failing: how many of the next publishes fail.
        failed_reads: how many of the next reads fail.
        waiting: how many replicas have found another leader.
    """

    def __init__(self) -> None:
        self.seconds = 10.0
        self.leader = ""
        self.batches: list[Batch] = []
        self.is_unreachable = False
        self.failing = 0
        self.failed_reads = 0
        self.waiting = 0
        self._tokens = 0
        self._changed = asyncio.Condition()

    @property
    def items(self) -> list[Item]:
        """All published items."""
        return [item for batch in self.batches for item in batch.items]

    async def acquire(self, name: str) -> str:
        if self.is_unreachable:
            raise RedisConnectionError
        if self.leader:
            self.waiting += 1
            await self._notify()
            return ""
        self._tokens += 1
        self.leader, self.batches = f"token-{self._tokens}", []
        return self.leader

    async def publish(self, name: str, token: str, first: int, items: Sequence[Item]) -> bool:
        if self.failing:
            self.failing -= 1
            raise RedisConnectionError
        if token != self.leader:
            return False
        self.batches.append(Batch(token, first, list(items)))
        await self._notify()
        return True

    async def renew(self, name: str, token: str) -> bool:
        return token == self.leader

    async def release(self, name: str, token: str) -> None:
        if token == self.leader:
            self.leader = ""
            await self._notify()

    async def read(self, name: str, position: str) -> Published:
        if self.failed_reads:
            self.failed_reads -= 1
            raise RedisConnectionError
        first = 0 if position == STREAM_START else int(position)
        return Published(self.batches[first:], str(len(self.batches)), self.leader)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on this object holds."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
