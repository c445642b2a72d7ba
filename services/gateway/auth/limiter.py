"""Holds callers to the limits of their keys and tenants.

While Redis does not answer, each process counts on from the counters that it last saw. No call
fails for that reason, and the limits then hold for each process.
"""

import asyncio
import contextvars
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import Counter
from redis.exceptions import RedisError

from services.errors import Overloaded
from services.gateway.auth.counts import Counts
from services.gateway.auth.limit_store import LEASE_SECONDS, Decision, LimitStore, Subject
from services.gateway.circuit_breaker import CircuitBreaker

REDIS_TIMEOUT = 0.5  # seconds, because calls wait for it
MAX_REMEMBERED = 10_000
_REASONS = {
    "concurrent_calls": ("TOO_MANY_CALLS", "calls in flight"),
    "requests_per_minute": ("RATE_LIMIT_EXCEEDED", "requests a minute"),
    "tokens_per_minute": ("RATE_LIMIT_EXCEEDED", "tokens a minute"),
    "tokens_per_day": ("QUOTA_EXCEEDED", "tokens a day (UTC)"),
    "money_per_day": ("QUOTA_EXCEEDED", "money a day (UTC)"),
}
_REFUSED = Counter("memetwin_limits_refused_total", "Calls that a limit refused.", ["limit"])
_ALONE = Counter(
    "memetwin_limits_local_total",
    "Calls that the process counted alone, because Redis did not answer.",
)
T = TypeVar("T")


class LimitedCall:
    """A call that counts.

    Attributes:
        id: its random id.
        subjects: the key and the tenant that have limits.
        counts: their counters.
    """

    def __init__(self, limiter: "Limiter", subjects: Sequence[Subject]) -> None:
        self._limiter = limiter
        self.id = secrets.token_hex(8)
        self.subjects = subjects
        self.counts: list[Counts] = []

    async def begin(self) -> None:
        """Count the call. Raises Overloaded if a limit refuses it."""
        await self._limiter.acquire(self)

    def charge(self, usage: Mapping[str, float]) -> None:
        """Count tokens that were used for the call, by kind."""
        self._limiter.charge(self, usage)

    def end(self) -> None:
        """Count the call as ended."""
        self._limiter.release(self)


class Limiter:
    """Admits calls within the limits of their subjects.

    Args:
        store: the counters of all replicas.
        cost: returns the money that a usage of tokens costs.
        clock: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        store: LimitStore,
        cost: Callable[[Mapping[str, float]], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._cost, self._clock = store, cost, clock
        self._breaker = CircuitBreaker()
        self._remembered: OrderedDict[str, Counts] = OrderedDict()
        self._calls: set[LimitedCall] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def acquire(self, call: LimitedCall) -> None:
        """Count a call. Raises Overloaded if a limit refuses it."""
        self._calls.add(call)
        try:
            decision = await self._ask_redis(lambda: self._store.acquire(call.subjects, call.id))
        except BaseException:  # Redis may have counted the call
            self.release(call)
            raise
        if decision is None:
            _ALONE.inc()
            decision = self._acquire_alone(call.subjects)
        call.counts = decision.counts
        for subject, counts in zip(call.subjects, decision.counts, strict=True):
            self._remember(subject, counts)
        if decision.subject:
            self._calls.discard(call)
            _REFUSED.labels(decision.limit).inc()
            raise _refusal(decision, decision.subject)

    def charge(self, call: LimitedCall, usage: Mapping[str, float]) -> None:
        """Count tokens and their cost, in the background."""
        tokens, money = sum(usage.values()), self._cost(usage)
        for subject in call.subjects:
            if counts := self._remembered.get(subject.name):
                counts.add(tokens, money)
        self._start(self._ask_redis(lambda: self._store.charge(call.subjects, tokens, money)))

    def release(self, call: LimitedCall) -> None:
        """Count a call as ended, in the background."""
        if call in self._calls:
            self._calls.remove(call)
            if subjects := _counting_calls(call):
                self._start(self._ask_redis(lambda: self._store.release(subjects, call.id)))

    async def watch(self) -> None:
        """Extend the leases of the calls in flight, so that they count for as long as they run."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            leases = [
                (subject, call.id) for call in self._calls for subject in _counting_calls(call)
            ]
            if leases:
                await self._ask_redis(lambda: self._store.renew(leases))  # noqa: B023

    async def close(self) -> None:
        """Wait until everything is counted."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask_redis(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the result of ``ask``, or None if Redis does not answer in time."""
        if not self._breaker.allows():
            return None
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                result = await ask()
        except (RedisError, OSError, TimeoutError):
            self._breaker.record_failure()
            return None
        self._breaker.record_success()
        return result

    def _acquire_alone(self, subjects: Sequence[Subject]) -> Decision:
        counts = []
        for subject in subjects:
            one = self._remembered.get(subject.name) or Counts(self._clock())
            one.advance(self._clock())
            one.calls = (
                sum(subject.name == other.name for call in self._calls for other in call.subjects)
                - 1
            )  # without this one
            counts.append(one)
        for subject, one in zip(subjects, counts, strict=True):
            if limit := one.exceeded(subject.limits):
                return Decision(counts, subject, limit)
        for one in counts:
            one.requests += 1
        return Decision(counts)

    def _remember(self, subject: Subject, counts: Counts) -> None:
        self._remembered[subject.name] = counts
        self._remembered.move_to_end(subject.name)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _counting_calls(call: LimitedCall) -> list[Subject]:
    return [one for one in call.subjects if one.limits.concurrent_calls is not None]


def _refusal(decision: Decision, subject: Subject) -> Overloaded:
    reason, what = _REASONS[decision.limit]
    counts = next(
        counts for counts in decision.counts if counts.exceeded(subject.limits) == decision.limit
    )
    limit = getattr(subject.limits, decision.limit)
    return Overloaded(
        reason,
        f"The limit of this {subject.kind}, {limit} {what}, is reached. Try again later.",
        retry_after=counts.retry_after(decision.limit, subject.limits),
        limit=limit,
        of=subject.kind,
        name=decision.limit,
    )
