"""Publishes the items of a leader to the followers on other replicas, in the background."""

import asyncio
import contextlib
import logging
from typing import Any

from redis.exceptions import RedisError

from services.gateway.coalescing.leases import LeaseStore

log = logging.getLogger(__name__)

# Followers read this often, so publishing more often would be useless.
FLUSH_SECONDS = 0.05
MAX_QUEUED_ITEMS = 10_000


class Publisher:
    """Holds a lease while its leader works, and publishes the leader's items in batches.

    A failed publish must not leave a gap in a follower's stream. After one, or with too many queued
    items, the publisher stops publishing and releases the lease. A follower that has received
    nothing starts again, and any other follower fails.
    """

    def __init__(self, leases: LeaseStore, name: str, token: str) -> None:
        self._leases, self._name, self._token = leases, name, token
        self._queue: list[dict[str, Any]] = []
        self._count = 0
        self._is_publishing = True
        self._queued, self._ending = asyncio.Event(), asyncio.Event()
        self._renewing = asyncio.create_task(self._renew())
        self._publishing = asyncio.create_task(self._publish())

    def add(self, item: dict[str, Any]) -> None:
        """Queue an item. The caller does not wait for Redis."""
        if not self._is_publishing:
            return
        self._queue.append(item)
        self._queued.set()
        if len(self._queue) > MAX_QUEUED_ITEMS:
            self._is_publishing = False
            self._publishing.cancel()

    async def close(self, *, publish_rest: bool = True) -> None:
        """Publish the queued items and release the lease."""
        self._ending.set()
        self._queued.set()
        if not publish_rest:
            self._publishing.cancel()
        await asyncio.wait([self._publishing])
        self._renewing.cancel()
        with contextlib.suppress(RedisError):
            await self._leases.release(self._name, self._token)

    async def _publish(self) -> None:
        try:
            while await self._publish_batch():
                with contextlib.suppress(TimeoutError):  # close() ends the pause
                    await asyncio.wait_for(self._ending.wait(), FLUSH_SECONDS)
        except RedisError:
            log.warning("publishing failed; other replicas do not follow this call", exc_info=True)
        except asyncio.CancelledError:
            if self._ending.is_set():
                raise
            log.warning("publishing is too slow; other replicas do not follow this call")
        finally:
            self._is_publishing = False
            self._queue.clear()
        if not self._ending.is_set():
            await self._give_up()

    async def _publish_batch(self) -> bool:
        """Publish the queued items; return whether more may follow."""
        await self._queued.wait()
        self._queued.clear()
        is_last = self._ending.is_set()
        batch, self._queue = self._queue, []
        if batch:
            first, self._count = self._count, self._count + len(batch)
            if not await self._leases.publish(self._name, self._token, first, batch):
                return False  # another replica holds the lease
        return not is_last

    async def _give_up(self) -> None:
        self._renewing.cancel()
        with contextlib.suppress(RedisError):
            await self._leases.release(self._name, self._token)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._leases.seconds / 3)
            with contextlib.suppress(RedisError):
                await self._leases.renew(self._name, self._token)
