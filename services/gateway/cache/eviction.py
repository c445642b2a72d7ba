"""Keeps the cache within its memory limit by GDSF eviction, in the background.

Redis evicts entries from its records first; then this module deletes their vectors from search.
"""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict

from prometheus_client import Counter, Gauge

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
        if due and (self._task is None or self._task.done()):
            self._last_run = time.monotonic()
            self._task = asyncio.create_task(self._evict())

    async def wait(self) -> None:
        """Wait until no eviction is running."""
        if self._task:
            await asyncio.wait([self._task])

    async def _evict(self) -> None:
        with contextlib.suppress(Failure):
            while True:
                count = await self._store.evict(self._max_bytes * (1 - FREE_SHARE))
                EVICTED.inc(count)
                await self._delete_from_search()
                if count < BATCH_SIZE:
                    return
        log.warning("eviction stopped: Redis or search failed; a later write resumes it")

    async def _delete_from_search(self) -> None:
        """Delete the vectors of evicted entries, including those that a lost replica evicted."""
        by_collection: defaultdict[str, list[str]] = defaultdict(list)
        for entry_id, (digest, partition) in (await self._store.evicted()).items():
            by_collection[collection_name(digest, partition)].append(entry_id)
        for name, entry_ids in by_collection.items():
            for first in range(0, len(entry_ids), BATCH_SIZE):
                batch = entry_ids[first : first + BATCH_SIZE]
                await self._search.delete(name, batch)
                await self._store.forget_evicted(batch)
