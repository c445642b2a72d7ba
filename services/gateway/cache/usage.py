"""Counts lookups: immediately in Prometheus, and every second in Redis, for all replicas.

The same write logs semantic hits and misses, and lists the names of tenants and namespaces.
"""

import asyncio
import bisect
import contextlib
import contextvars
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from prometheus_client import Counter as Metric
from prometheus_client import Histogram

from services.errors import Failure
from services.gateway.cache.lookup_log import KINDS as KINDS_LOGGED
from services.gateway.cache.lookup_log import LoggedLookup, LookupLog
from services.gateway.cache.owners import Owner
from services.gateway.cache.pricing import Prices
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.statistics import LATENCY_BUCKETS
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Decision, Request, Scope
from services.gateway.cache.usage_store import UsageStore

FLUSH_PERIOD = 1.0  # seconds
EVENTS_PER_STEP = 100  # counted before other tasks may run
KINDS = ("exact", "semantic", "miss", "bypass")
_DECISIONS = Metric("memetwin_cache_decisions_total", "Cache lookups by outcome.", ["kind"])
_CURATED = Metric("memetwin_cache_curated_hits_total", "Cache hits that curated entries answered.")
_SAVED_TOKENS = Metric("memetwin_cache_saved_tokens_total", "Tokens that cache hits saved.", ["of"])
_SAVED_SECONDS = Metric(
    "memetwin_cache_saved_seconds_total", "Seconds of generation that cache hits saved."
)
_SAVED_MONEY = Metric(
    "memetwin_cache_saved_money_total",
    "Money that cache hits saved, at the prices of MEMETWIN_LLM_PRICES.",
)
_SECONDS = Histogram(
    "memetwin_cache_lookup_seconds",
    "Duration of cache lookups in seconds, by outcome.",
    ["kind"],
    buckets=LATENCY_BUCKETS,
)
_BY_KIND = {kind: (_DECISIONS.labels(kind), _SECONDS.labels(kind)) for kind in KINDS}


@dataclass(frozen=True)
class LookupEvent:
    """A decision in a scope, and how many seconds it took.

    ``request`` is what is logged, or None.
    """

    scope: Scope
    decision: Decision
    seconds: float
    request: Request | None = None


@dataclass(frozen=True)
class UsageStores:
    """Where a recorder writes."""

    counters: UsageStore
    names: ScopeNames
    log: LookupLog


class UsageRecorder:
    """Buffers the lookups of this process and adds them to the shared counters."""

    def __init__(
        self, scopes: Scopes, store: CacheStore, stores: UsageStores, prices: Prices
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._counters, self._names, self._log = stores.counters, stores.names, stores.log
        self._prices = prices
        self._events: list[LookupEvent] = []
        self._task: asyncio.Task[None] | None = None
        self._writes: set[asyncio.Task[None]] = set()

    def record(
        self, scope: Scope, decision: Decision, seconds: float, request: Request | None = None
    ) -> None:
        """Record a lookup and its duration in seconds.

        The log lists the prompt of ``request`` if the lookup was a semantic hit or a miss.
        """
        if decision.kind not in KINDS_LOGGED:
            request = None
        count, histogram = _BY_KIND[decision.kind]
        count.inc()
        histogram.observe(seconds)
        self._events.append(LookupEvent(scope, decision, seconds, request))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush_periodically())

    async def record_feedback(self, scope: Scope, *, correct: bool) -> None:
        """Count a caller's judgement of an answer."""
        counts = {"right" if correct else "wrong": 1}
        totals = {scope: Counter[str](counts)}
        await self._counters.add(
            {await self._scopes.owner(scope): counts}, await self._of_namespaces(totals)
        )

    async def stats(self, scope: Scope, *, whole_tenant: bool) -> dict[str, float]:
        """Return the counters of all replicas, for a scope or its whole tenant."""
        await self.flush()
        owner = await self._scopes.owner(scope)
        return await self._counters.counters(owner.tenant if whole_tenant else owner.partition)

    async def namespace_stats(self, tenant: str, namespace: str) -> dict[str, float]:
        """Return the counters of all replicas for a namespace, of all its users together."""
        await self.flush()
        return await self._counters.counters(
            await self._scopes.namespace_partition(tenant, namespace)
        )

    async def history(
        self, tenant: str, namespace: str | None = None
    ) -> list[tuple[float, dict[str, float]]]:
        """Return the counters of the last day by slot, see ``UsageStore.history``.

        They are those of a tenant, or of one of its namespaces.
        """
        if namespace is None:
            partition = await self._scopes.tenant_partition(tenant)
        else:
            partition = await self._scopes.namespace_partition(tenant, namespace)
        return await self._counters.history(partition)

    async def flush(self) -> None:
        """Write the buffered lookups. They are lost if Redis fails: they are only statistics.

        A caller that is cancelled does not stop the write.
        """
        events, self._events = self._events, []
        task = asyncio.create_task(self._write(events), context=contextvars.Context())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        await asyncio.shield(task)

    async def _write(self, events: list[LookupEvent]) -> None:
        totals: defaultdict[Scope, Counter[str]] = defaultdict(Counter)
        hits: Counter[str] = Counter()
        for number, event in enumerate(events, 1):
            if number % EVENTS_PER_STEP == 0:
                await asyncio.sleep(0)  # lets other tasks run
            totals[event.scope].update(self._counts(event))
            if event.decision.entry:
                hits[event.decision.entry.id] += 1
        of_scopes = {await self._scopes.owner(scope): counts for scope, counts in totals.items()}
        await self._counters.add(of_scopes, await self._of_namespaces(totals))
        if hits:
            await self._store.record_hits(hits)
        await self._names.add_tenants({scope.tenant for scope in totals})
        await self._write_log(events)

    async def _of_namespaces(
        self, totals: Mapping[Scope, "Counter[str]"]
    ) -> dict[Owner, "Counter[str]"]:
        """Return the counters of the namespaces that have a place among those of their tenant."""
        used: defaultdict[str, set[str]] = defaultdict(set)
        tenants = {
            tenant: await self._scopes.tenant_partition(tenant)
            for tenant in {scope.tenant for scope in totals}
        }
        for scope in totals:
            used[tenants[scope.tenant]].add(scope.namespace)
        placed = await self._names.add_namespaces(used)
        found: defaultdict[Owner, Counter[str]] = defaultdict(Counter)
        for scope, counts in totals.items():
            tenant = tenants[scope.tenant]
            if scope.namespace in placed[tenant]:
                name = await self._scopes.namespace_partition(scope.tenant, scope.namespace)
                found[Owner(name, tenant)].update(counts)
        return found

    async def _write_log(self, events: Sequence[LookupEvent]) -> None:
        if not self._log.size:
            return
        latest: defaultdict[tuple[str, str], deque[LookupEvent]] = defaultdict(
            lambda: deque(maxlen=self._log.size)
        )
        for event in events:
            if event.request and event.request.prompt.strip():
                latest[event.scope.tenant, event.decision.kind].append(event)
        lookups: defaultdict[str, list[LoggedLookup]] = defaultdict(list)
        for (tenant, _), logged in latest.items():
            partition = await self._scopes.tenant_partition(tenant)
            lookups[partition] += [
                await self._logged(event.request, event.decision)
                for event in logged
                if event.request
            ]
        await self._log.add(lookups)

    async def _logged(self, request: Request, decision: Decision) -> LoggedLookup:
        served = decision.entry
        entry_id = served.id if served else await self._scopes.entry_id(request)
        if served:
            decision = replace(decision, nearest=served.as_nearest)
        return LoggedLookup.of(request, decision, entry_id)

    async def close(self) -> None:
        """Stop, and wait until all lookups are written."""
        if self._task:
            self._task.cancel()
        with contextlib.suppress(Failure):
            await self.flush()
        if self._writes:
            await asyncio.wait(self._writes)

    async def _flush_periodically(self) -> None:
        while self._events:
            await asyncio.sleep(FLUSH_PERIOD)
            with contextlib.suppress(Failure):
                await self.flush()

    def _counts(self, event: LookupEvent) -> "Counter[str]":
        """Return a lookup's increments of the counters, by the counters' names in Redis."""
        decision = event.decision
        bucket = bisect.bisect_left(LATENCY_BUCKETS, event.seconds)
        counts: dict[str, float] = {decision.kind: 1, f"took:{decision.kind}:{bucket}": 1}
        if decision.entry:
            usage, seconds = decision.entry.usage, decision.entry.seconds
            money = self._prices.cost(usage)
            for name, tokens in usage.items():
                counts[name] = tokens
                _SAVED_TOKENS.labels(name).inc(tokens)
            counts |= {"seconds": seconds, "money": money}
            if decision.entry.is_curated:
                counts["curated"] = 1
                _CURATED.inc()
            _SAVED_SECONDS.inc(seconds)
            _SAVED_MONEY.inc(money)
        if decision.kind == "semantic" and decision.probability is not None:
            counts["expected_wrong"] = 1 - decision.probability
        return Counter(counts)
