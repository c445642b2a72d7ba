"""Counts what the cache did: for Prometheus at once, for all replicas in Redis every second."""

import asyncio
import bisect
import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass

from prometheus_client import Counter as Metric
from prometheus_client import Histogram

from services.errors import Failure
from services.gateway.cache.pricing import Prices
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.statistics import BUCKETS
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Decision, Scope

PERIOD, AT_ONCE = 1.0, 100
KINDS = ("exact", "semantic", "miss", "bypass")
_DECISIONS = Metric("memetwin_cache_decisions_total", "Decisions of the cache.", ["kind"])
_SAVED = Metric("memetwin_cache_saved_tokens_total", "Tokens that hits spared.", ["of"])
_SAVED_SECONDS = Metric("memetwin_cache_saved_seconds_total", "Seconds of a model, likewise.")
_SAVED_MONEY = Metric("memetwin_cache_saved_money_total", "Money at MEMETWIN_LLM_PRICES, likewise.")
_SECONDS = Histogram(
    "memetwin_cache_lookup_seconds", "Seconds of a lookup.", ["kind"], buckets=BUCKETS
)
_BY_KIND = {kind: (_DECISIONS.labels(kind), _SECONDS.labels(kind)) for kind in KINDS}


@dataclass(frozen=True)
class LookupEvent:
    """A decision, where it was made, and the seconds that it took."""

    scope: Scope
    decision: Decision
    seconds: float


class UsageRecorder:
    """Decisions of this process, on their way to the store."""

    def __init__(self, scopes: Scopes, store: CacheStore, prices: Prices) -> None:
        self._scopes = scopes
        self._store = store
        self._prices = prices
        self._noted: list[LookupEvent] = []
        self._task: asyncio.Task[None] | None = None

    def record(self, scope: Scope, decision: Decision, seconds: float) -> None:
        """Count a decision that took so long."""
        count, histogram = _BY_KIND[decision.kind]
        count.inc()
        histogram.observe(seconds)
        self._noted.append(LookupEvent(scope, decision, seconds))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._later())

    async def stats(self, scope: Scope, *, whole_tenant: bool) -> dict[str, float]:
        """Return the counters of a scope, or of its whole tenant, those of all replicas."""
        await self.flush()
        return await self._store.counters(await self._place(scope, whole_tenant))

    async def history(self, tenant: str) -> list[tuple[float, dict[str, float]]]:
        """Return a tenant's counters of a day, each with its beginning in seconds since 1970."""
        return await self._store.history(await self._scopes.tenant_partition(tenant))

    async def flush(self) -> None:
        """Write what was counted; what cannot be written is lost: numbers are no answers."""
        noted, self._noted = self._noted, []
        places: defaultdict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
        hits: Counter[str] = Counter()
        for number, one in enumerate(noted, 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # so that lookups go on
            counts = self._counts(one)
            for whole_tenant in (False, True):
                place = await self._place(one.scope, whole_tenant)
                places[place, whole_tenant].update(counts)
            if one.decision.entry:
                hits[one.decision.entry.id] += 1
        for (place, whole_tenant), counts in places.items():
            await self._store.count(place, counts, history=whole_tenant)
        if hits:
            await self._store.touch(hits)

    async def close(self) -> None:
        """Write all counts."""
        if self._task:
            self._task.cancel()
        with contextlib.suppress(Failure):
            await self.flush()

    async def _later(self) -> None:
        while self._noted:
            await asyncio.sleep(PERIOD)
            with contextlib.suppress(Failure):
                await self.flush()

    async def _place(self, scope: Scope, whole_tenant: bool) -> str:
        if whole_tenant:
            return await self._scopes.tenant_partition(scope.tenant)
        return await self._scopes.partition(scope)

    def _counts(self, noted: LookupEvent) -> "Counter[str]":
        """Return what a decision adds to the counters."""
        decision = noted.decision
        bucket = bisect.bisect_left(BUCKETS, noted.seconds)
        counts: dict[str, float] = {decision.kind: 1, f"took:{decision.kind}:{bucket}": 1}
        if decision.entry:
            usage, seconds = decision.entry.usage, decision.entry.seconds
            money = self._prices.of(usage)
            for name, tokens in usage.items():
                counts[name] = tokens
                _SAVED.labels(name).inc(tokens)
            counts |= {"seconds": seconds, "money": money}
            _SAVED_SECONDS.inc(seconds)
            _SAVED_MONEY.inc(money)
        if decision.kind == "semantic" and decision.probability is not None:
            counts["expected_wrong"] = 1 - decision.probability
        return Counter(counts)
