"""Keeps the cache within its memory limit by GDSF eviction, in the background.

Redis evicts entries from its records first. Then this module deletes the vectors of evicted and
deleted entries from search. Redis lists them until search has deleted them.
"""

import asyncio
import contextvars
import logging
import math
import time
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from services import deadlines
from services.errors import Failure
from services.gateway.backends.search import SearchClient
from services.gateway.cache.gdsf import BATCH_SIZE
from services.gateway.cache.index import collection_name
from services.gateway.cache.store import CacheBytes, CacheStore

log = logging.getLogger(__name__)

# An eviction frees this share of a limit. Without it every write would evict.
FREE_SHARE = 0.02
# While entries are written, expired ones are deleted at least once in this many seconds.
EXPIRY_PERIOD = 10.0
# An eviction that fails is tried again after this many seconds.
RETRY_SECONDS = 10.0
BYTES = Gauge("memetwin_cache_bytes", "Estimated bytes of all cache entries, on all replicas.")
EVICTED = Counter(
    "memetwin_cache_evicted_total", "Cache entries evicted to stay within the memory limit."
)


@dataclass(frozen=True)
class MemoryLimits:
    """How many bytes the entries may take.

    Attributes:
        total: of all tenants.
        tenant: of each tenant.
    """

    total: float = math.inf
    tenant: float = math.inf

    @classmethod
    def of(cls, total: int, tenant: int) -> "MemoryLimits":
        """Return the limits of settings, in which 0 means no limit."""
        return cls(total or math.inf, tenant or math.inf)

    def share(self, share: float) -> "MemoryLimits":
        """Return this share of both limits."""
        return MemoryLimits(self.total * share, self.tenant * share)

    def exceeded(self, taken: CacheBytes) -> bool:
        """Return whether the entries take more bytes."""
        return taken.total > self.total or taken.tenant > self.tenant


class Eviction:
    """Starts an eviction when the entries exceed the limits."""

    def __init__(self, store: CacheStore, search: SearchClient, limits: MemoryLimits) -> None:
        self._store = store
        self._search = search
        self._limits = limits
        self._task: asyncio.Task[None] | None = None
        self._last_run = time.monotonic()

    def record(self, taken: CacheBytes) -> None:
        """Record the bytes of the entries, and evict in the background if they exceed a limit."""
        if taken.total < 0:
            return
        BYTES.set(taken.total)
        if self._limits.exceeded(taken) or time.monotonic() - self._last_run > EXPIRY_PERIOD:
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
            limits = self._limits.share(1 - FREE_SHARE)
            count = await self._store.evict(limits.total, limits.tenant)
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
