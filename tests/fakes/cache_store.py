"""The cache's store in memory: no expiry, one tenant, and the oldest entry is evicted first."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from services.errors import Failure
from services.gateway.cache import gdsf
from services.gateway.cache.curated import is_curated
from services.gateway.cache.lookup_log import LookupLog
from services.gateway.cache.owners import Owner
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.store import CacheBytes, CacheStore, StoredEntry
from services.gateway.cache.usage import UsageStores
from services.gateway.cache.usage_store import UsageStore
from services.gateway.redis_store import Record, dump
from services.gateway.shared_secret import SharedSecret
from tests.fakes.redis import FakeRedis


class FakeCacheStore(CacheStore):
    """Holds records by entry id, as ``records``; ``hits`` counts them by entry id."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[str, Record]] = {}
        self.hits: dict[str, int] = {}
        self.failure: Failure | None = None
        self._purges: dict[Owner, int] = {}
        self._request_ids: dict[tuple[str, str], str] = {}
        self._removed: dict[str, tuple[str, str]] = {}

    async def get(self, entry_id: str) -> Record | None:
        self._check()
        return self.records[entry_id][1] if entry_id in self.records else None

    async def existing(self, entry_ids: Collection[str]) -> set[str]:
        self._check()
        return {*entry_ids} & {*self.records}

    async def get_each(self, entry_ids: Sequence[str]) -> list[Record | None]:
        return [await self.get(one) for one in entry_ids]

    async def curated_bytes(self, owner: Owner) -> CacheBytes:
        self._check()
        total = sum(
            gdsf.estimate_bytes(dump(record), record["vector"])
            for key, (_, record) in self.records.items()
            if is_curated(key)
        )
        return CacheBytes(total, total)

    async def get_many(self, entry_ids: Sequence[str]) -> list[Record]:
        self._check()
        return [self.records[one][1] for one in entry_ids if one in self.records]

    async def put(
        self, owner: Owner, record: Record, ttl: float, purge_count: int | None = None
    ) -> CacheBytes:
        self._check()
        if purge_count not in (None, self._purges.get(owner, 0)):
            return CacheBytes(-1, -1)
        self.records[record["id"]] = owner.partition, record
        return CacheBytes(self._total(), self._total())

    async def replace(self, stored: StoredEntry, record: Record) -> bool:
        self._check()
        partition, current = self.records.get(stored.id, ("", None))
        if current != stored.record:
            return False
        self.records[stored.id] = partition, record
        return True

    async def delete(self, entry_ids: Sequence[str]) -> None:
        self._check()
        for one in entry_ids:
            if one in self.records:
                partition, record = self.records.pop(one)
                self._removed[one] = record["digest"], partition

    async def evict(self, max_bytes: float, tenant_max_bytes: float = math.inf) -> int:
        self._check()
        count = 0
        while self._total() > min(max_bytes, tenant_max_bytes) and count < gdsf.BATCH_SIZE:
            oldest = next(iter(self.records))
            partition, record = self.records.pop(oldest)
            self._removed[oldest] = record["digest"], partition
            count += 1
        return count

    async def record_hits(self, hits: Mapping[str, int]) -> None:
        self._check()
        for entry_id, count in hits.items():
            self.hits[entry_id] = self.hits.get(entry_id, 0) + count

    async def removed(self) -> dict[str, tuple[str, str]]:
        return dict(self._removed)

    async def forget_removed(self, entry_ids: Sequence[str]) -> None:
        for one in entry_ids:
            del self._removed[one]

    async def page(self, partition: str, size: int, token: str) -> tuple[list[Record], str]:
        records = [one for where, one in self.records.values() if where == partition]
        records = sorted((one for one in records if one["id"] > token), key=lambda one: one["id"])
        return records[:size], records[size - 1]["id"] if len(records) > size else ""

    async def purge_count(self, owner: Owner) -> int:
        return self._purges.get(owner, 0)

    async def begin_purge(self, owner: Owner) -> None:
        self._purges[owner] = self._purges.get(owner, 0) + 1

    async def claim_request_id(self, owner: Owner, request_id: str, entry_id: str) -> str:
        return self._request_ids.setdefault((owner.partition, request_id), entry_id)

    def _total(self) -> int:
        return sum(
            gdsf.estimate_bytes(dump(record), record["vector"])
            for _, record in self.records.values()
        )

    def _check(self) -> None:
        if self.failure:
            raise self.failure


def fake_scopes(redis: FakeRedis | None = None) -> Scopes:
    """Scopes with a secret in memory."""
    return Scopes(SharedSecret(redis or FakeRedis(), "test:"))  # type: ignore[arg-type]


def usage_stores(redis: Any, log_size: int = 10) -> UsageStores:
    """Return the stores of a usage recorder, with the prefix ``p:``."""
    return UsageStores(
        UsageStore(redis, "p:"), ScopeNames(redis, "p:"), LookupLog(redis, "p:", log_size)
    )
