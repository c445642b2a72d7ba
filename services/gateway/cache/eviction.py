"""Keeps the cache within its memory limit by GDSF eviction, in the background.

Redis evicts entries from its records first. Then this module deletes the vectors of evicted and
deleted entries from search. Redis lists them until search has deleted them.
"""

import asyncio
import contextvars
import logging
import time
from collections import defaultdict

from prometheus_client import Counter, Gauge

from services import deadlines
from services.errors import Failure
from services.gateway.backends.search import SearchClient
from services.gateway.cache.gdsf import BATCH_SIZE
from services.gateway.cache.index import collection_name
from services.gateway.cache.store import CacheStore

log = logging.getLogger(__name__)

# An eviction frees this share of the limit. Without it every write would evict.
FREE_SHARE = 0.02
# While entries are written, expired ones are deleted at least once in this many seconds.
EXPIRY_PERIOD = 10.0
# An eviction that fails is tried again after this many seconds.
RETRY_SECONDS = 10.0
BYTES = Gauge("memetwin_cache_bytes", "Estimated bytes of all cache entries, on all replicas.")
EVICTED = Counter(
    "memetwin_cache_evicted_total", "Cache entries evicted to stay within the memory limit."
)


class Eviction:
    """Starts an eviction when the entries exceed ``max_bytes``; 0 means no limit."""

    def __init__(self, store: CacheStore, search: SearchClient, max_bytes: int) -> None:
        self._store = store
        self._search = search
        self._max_bytes = max_bytes or float("inf")
        self._task: asyncio.Task[None] | None = None
        self._last_run = time.monotonic()

    def record_total(self, total_bytes: int) -> None:
        """Record the bytes of all entries, and evict in the background if they exceed the limit.

        A negative number means that the total is unknown.
        """
        if total_bytes < 0:
            return
        BYTES.set(total_bytes)
        due = total_bytes > self._max_bytes or time.monotonic() - self._last_run > EXPIRY_PERIOD
        if due:
            self.start()

    def start(self) -> None:
        """Evict in the background, and retry until it succeeds, unless an eviction is running."""
        if self._task is None or self._task.done():
            self._last_run = time.monotonic()
            # The context is empty, because the caller's deadline does not apply to the eviction.
            self._task = asyncio.create_task(self._run(), context=contextvars.Context())

    async def close(self) -> None:
        """Stop. Redis keeps the list of the remaining work."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                with deadlines.limit(deadlines.DEFAULT_DEADLINE):
                    await self._evict()
            except Failure as failure:
                log.warning(
                    "eviction failed and will be tried again", extra={"reason": failure.reason}
                )
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _evict(self) -> None:
        while True:
            count = await self._store.evict(self._max_bytes * (1 - FREE_SHARE))
            EVICTED.inc(count)
            await self._delete_from_search()
            if count < BATCH_SIZE:
                return

    async def _delete_from_search(self) -> None:
        """Delete the vectors of removed entries, including those that another replica removed."""
        by_collection: defaultdict[str, list[str]] = defaultdict(list)
        for entry_id, (digest, partition) in (await self._store.removed()).items():
            by_collection[collection_name(digest, partition)].append(entry_id)
        for name, entry_ids in by_collection.items():
            for first in range(0, len(entry_ids), BATCH_SIZE):
                batch = entry_ids[first : first + BATCH_SIZE]
                await self._search.delete(name, batch)
                await self._store.forget_removed(batch)
