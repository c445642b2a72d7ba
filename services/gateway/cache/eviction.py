"""Keeps the cache within its memory: off the path, what is worth least leaves ledger and search."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict

from prometheus_client import Counter, Gauge

from services.errors import Failure
from services.gateway.backends.search import SearchClient
from services.gateway.cache.gdsf import AT_ONCE
from services.gateway.cache.index import collection
from services.gateway.cache.store import CacheStore

log = logging.getLogger(__name__)

# Once over the bound, so much of it is made free, so that not every write evicts.
ROOM = 0.02
# What has expired is forgotten that often while answers are written.
PERIOD = 10.0
BYTES = Gauge("memetwin_cache_bytes", "Bytes that cached answers take, about, on all replicas.")
EVICTED = Counter("memetwin_cache_evicted_total", "Cached answers evicted to keep within memory.")


class Eviction:
    """Evicts when told what all entries take; ``most`` is the bound in bytes, 0 for none."""

    def __init__(self, store: CacheStore, search: SearchClient, most: int) -> None:
        self._store = store
        self._search = search
        self._most = most or float("inf")
        self._task: asyncio.Task[None] | None = None
        self._last = time.monotonic()

    def note(self, taken: int) -> None:
        """Take in how many bytes all entries take; less than 0 says nothing."""
        if taken < 0:
            return
        BYTES.set(taken)
        due = taken > self._most or time.monotonic() - self._last > PERIOD
        if due and (self._task is None or self._task.done()):
            self._last = time.monotonic()
            self._task = asyncio.create_task(self._make_room())

    async def settle(self) -> None:
        """Wait for what is under way."""
        if self._task:
            await asyncio.wait([self._task])

    async def _make_room(self) -> None:
        with contextlib.suppress(Failure):
            while True:
                count = await self._store.evict(self._most * (1 - ROOM))
                EVICTED.inc(count)
                await self._leave()
                if count < AT_ONCE:
                    return
        log.warning("eviction waits for what is away")

    async def _leave(self) -> None:
        """Delete from search what was evicted, also by a replica that died since."""
        leaving: defaultdict[str, list[str]] = defaultdict(list)
        for key, (digest, partition) in (await self._store.leaving()).items():
            leaving[collection(digest, partition)].append(key)
        for name, ids in leaving.items():
            for first in range(0, len(ids), AT_ONCE):
                await self._search.delete(name, ids[first : first + AT_ONCE])
                await self._store.left(ids[first : first + AT_ONCE])
