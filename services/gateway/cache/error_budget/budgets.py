"""The error budgets of tenants, kept up to date with the observations of all replicas.

An observation is appended to the store. After it appends one, a replica immediately reads the
others' observations. Otherwise it reads them in the background when a lookup needs the budget, at
most once a second.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge

from services.gateway.auth.caller import current_key_name, current_tenant
from services.gateway.cache.error_budget.lru import LruDict
from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.error_budget.types import Observation
from services.gateway.cache.statistics import wilson_interval

REFRESH_PERIOD = 1.0  # seconds for which other replicas' observations may be missing
MIN_FIT_PERIOD = 0.05  # seconds between fits while many misses are answered
MAX_TENANTS = 256  # budgets in memory
OBSERVATIONS = Counter(
    "memetwin_cache_labels_total",
    "Cached answers that were found correct or wrong.",
    ["served", "right"],
)
WRONG_RATIO = Gauge(
    "memetwin_cache_wrong_ratio",
    "Share of wrong answers among checked cache hits, and the ends of its 95 % interval.",
    ["tenant", "end"],
)


@dataclass
class _TenantState:
    """A tenant's budget, and the stream id of the last observation it has learnt from."""

    budget: ErrorBudget = field(default_factory=ErrorBudget)
    last_id: str = ""
    refreshed: float = -REFRESH_PERIOD
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TenantBudgets:
    """Holds the budgets of the most recent tenants. ``run_later`` starts background work."""

    def __init__(
        self,
        store: ObservationStore,
        run_later: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._store = store
        self._run_later = run_later
        self._states: LruDict[_TenantState] = LruDict(MAX_TENANTS)

    async def get(self, tenant: str) -> ErrorBudget:
        """Return a tenant's budget. The first call reads it; later calls refresh it afterwards."""
        state = self._state(tenant)
        if not state.last_id:
            await self._refresh(state, tenant)
        elif time.monotonic() - state.refreshed > REFRESH_PERIOD:
            state.refreshed = time.monotonic()
            self._run_later(lambda: self._refresh(state, tenant))
        return state.budget

    async def get_fresh(self, tenant: str) -> ErrorBudget:
        """Return a tenant's budget with every observation that the store holds."""
        state = self._state(tenant)
        await self._refresh(state, tenant)
        return state.budget

    async def add(self, tenant: str, observation: Observation) -> None:
        """Append an observation for all replicas, and learn from it."""
        served, correct = (str(one).lower() for one in (observation.served, observation.correct))
        OBSERVATIONS.labels(served, correct).inc()
        stream_id = await self._store.append(tenant, observation)
        state = self._state(tenant)
        if observation.served or time.monotonic() - state.refreshed > MIN_FIT_PERIOD:
            await self._refresh(state, tenant, stream_id)
        if current_key_name():
            interval = wilson_interval(*state.budget.error_counts())
            for end, value in interval._asdict().items():
                WRONG_RATIO.labels(current_tenant(""), end).set(value)

    async def _refresh(self, state: _TenantState, tenant: str, stream_id: str = "") -> None:
        """Learn from new observations, unless another refresh has passed ``stream_id``."""
        async with state.lock:
            if stream_id and _order(stream_id) <= _order(state.last_id):
                return
            state.refreshed = time.monotonic()
            observations, last_id = await self._store.read_after(tenant, state.last_id)
            state.budget.add(observations)
            state.last_id = last_id or "0-0"

    def _state(self, tenant: str) -> _TenantState:
        return self._states.put(tenant, self._states.get(tenant) or _TenantState())


def _order(stream_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in stream_id.split("-")) if stream_id else (-1,)
