"""Holds callers to the limits of their keys and tenants.

While Redis counts some calls, the next ones wait, and then one pipeline counts them all. So the
limits cost many concurrent calls little, and no replica holds a share of a quota that others lack.

While Redis does not answer, each process counts on from the counters that it last saw. No call
fails for that reason, and the limits then hold for each process.
"""

import asyncio
import contextvars
import itertools
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import prometheus_client
from redis.exceptions import RedisError

from services.errors import Overloaded, Unavailable
from services.gateway.auth.counts import Counts
from services.gateway.auth.limit_store import (
    LEASE_SECONDS,
    MAX_CALLS,
    Decision,
    LimitStore,
    Subject,
    Subjects,
)
from services.gateway.circuit_breaker import CircuitBreaker
from services.gateway.coalescing.batcher import CoalescingBatcher

REDIS_TIMEOUT = 0.5  # seconds, because calls wait for it
MAX_REMEMBERED = 10_000
# Seconds until other replicas see that a call has ended, unless this one counts a call before.
_RELEASE_DELAY = 0.02
_REASONS = {
    "concurrent_calls": ("TOO_MANY_CALLS", "calls in flight"),
    "requests_per_minute": ("RATE_LIMIT_EXCEEDED", "requests a minute"),
    "tokens_per_minute": ("RATE_LIMIT_EXCEEDED", "tokens a minute"),
    "tokens_per_day": ("QUOTA_EXCEEDED", "tokens a day (UTC)"),
    "money_per_day": ("QUOTA_EXCEEDED", "money a day (UTC)"),
}
_REFUSED = prometheus_client.Counter(
    "memetwin_limits_refused_total", "Calls that a limit refused.", ["limit"]
)
_ALONE = prometheus_client.Counter(
    "memetwin_limits_local_total",
    "Calls that the process counted alone, because Redis did not answer.",
)
T = TypeVar("T")


class LimitedCall:
    """A call that counts.

    Attributes:
        id: its id, which no other call of any replica has.
        subjects: the key and the tenant that have limits.
        counts: their counters.
    """

    def __init__(self, limiter: "Limiter", subjects: Subjects) -> None:
        self._limiter = limiter
        self.id = limiter.new_id()
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
        self._remembered: OrderedDict[tuple[str, str], Counts] = OrderedDict()
        self._calls: set[LimitedCall] = set()
        self._in_flight = Counter[tuple[str, str]]()
        self._ended: dict[Subject, list[str]] = {}
        self._release_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._process, self._numbers = secrets.token_hex(8), itertools.count()
        # An item is a call, or None to count only ended calls. One batch at a time, so that Redis
        # sees the end of a call before the next call.
        self._batcher = CoalescingBatcher[LimitedCall | None, Decision | None](
            self._count, MAX_CALLS, max_concurrent=1, isolate_failures=False
        )

    def new_id(self) -> str:
        """Return an id for a call."""
        return f"{self._process}{next(self._numbers)}"

    async def acquire(self, call: LimitedCall) -> None:
        """Count a call. Raises Overloaded if a limit refuses it."""
        self._calls.add(call)
        self._in_flight.update(map(_identity, call.subjects))
        try:
            [decision] = await self._batcher.submit([call])
        except BaseException:  # Redis may have counted the call
            self.release(call)
            raise
        if decision is None:
            _ALONE.inc()
            decision = self._acquire_alone(call.subjects)
        call.counts = decision.counts
        if decision.subject:
            self._forget(call)
            _REFUSED.labels(decision.limit).inc()
            raise _refusal(decision, call.subjects, decision.subject)

    def charge(self, call: LimitedCall, usage: Mapping[str, float]) -> None:
        """Count tokens and their cost, in the background."""
        tokens, money = sum(usage.values()), self._cost(usage)
        for subject in call.subjects:
            if counts := self._remembered.get(_identity(subject)):
                counts.add(tokens, money)
        self._start(self._ask_redis(lambda: self._store.charge(call.subjects, tokens, money)))

    def release(self, call: LimitedCall) -> None:
        """Count a call as ended, in the background."""
        if call not in self._calls:
            return
        self._forget(call)
        for subject in _counting_calls(call):
            self._ended.setdefault(subject, []).append(call.id)
        if self._ended and self._release_timer is None:
            loop = asyncio.get_running_loop()
            self._release_timer = loop.call_later(_RELEASE_DELAY, self._send_ended)

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
        self._send_ended()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._batcher.close()

    async def _count(self, calls: Sequence[LimitedCall | None]) -> list[Decision | None]:
        """Count a batch of calls, together with all calls that have ended."""
        groups: dict[Subjects, list[LimitedCall]] = {}
        for call in calls:
            if call:
                groups.setdefault(call.subjects, []).append(call)
        ids = {subjects: [call.id for call in group] for subjects, group in groups.items()}
        ended, self._ended = self._ended, {}
        decisions = await self._ask_redis(lambda: self._store.acquire(ids, ended))
        if decisions is None:
            return [None] * len(calls)
        results: dict[LimitedCall | None, Decision] = {}
        for group, decision in zip(groups.values(), decisions, strict=True):
            for subject, counts in zip(group[0].subjects, decision.counts, strict=True):
                self._remember(subject, counts)
            admitted = Decision(decision.counts)
            for number, call in enumerate(group):
                results[call] = admitted if number < decision.granted else decision
        return [results.get(call) for call in calls]

    def _send_ended(self) -> None:
        """Tell Redis which calls have ended."""
        if self._release_timer:
            self._release_timer.cancel()
            self._release_timer = None
        if self._ended:
            self._start(self._batcher.submit([None]))

    async def _ask_redis(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the result of ``ask``, or None if Redis does not answer in time."""
        if not self._breaker.allows():
            return None
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                result = await ask()
        except (RedisError, OSError, TimeoutError, Unavailable):
            self._breaker.record_failure()
            return None
        self._breaker.record_success()
        return result

    def _acquire_alone(self, subjects: Subjects) -> Decision:
        counts = []
        for subject in subjects:
            one = self._remembered.get(_identity(subject)) or Counts(self._clock())
            one.advance(self._clock())
            one.calls = self._in_flight[_identity(subject)] - 1  # without this one
            counts.append(one)
        for subject, one in zip(subjects, counts, strict=True):
            if limit := one.exceeded(subject.limits):
                return Decision(counts, 0, subject, limit)
        for subject, one in zip(subjects, counts, strict=True):
            one.requests += 1
            self._remember(subject, one)
        return Decision(counts)

    def _forget(self, call: LimitedCall) -> None:
        self._calls.discard(call)
        for identity in map(_identity, call.subjects):
            self._in_flight[identity] -= 1
            if not self._in_flight[identity]:
                del self._in_flight[identity]

    def _remember(self, subject: Subject, counts: Counts) -> None:
        self._remembered[_identity(subject)] = counts
        self._remembered.move_to_end(_identity(subject))
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _identity(subject: Subject) -> tuple[str, str]:
    """Return what a subject keeps when its limits change."""
    return subject.tenant, subject.name


def _counting_calls(call: LimitedCall) -> list[Subject]:
    return [one for one in call.subjects if one.limits.concurrent_calls is not None]


def _refusal(decision: Decision, subjects: Subjects, subject: Subject) -> Overloaded:
    reason, what = _REASONS[decision.limit]
    counts = decision.counts[subjects.index(subject)]
    limit = getattr(subject.limits, decision.limit)
    return Overloaded(
        reason,
        f"The limit of this {subject.kind}, {limit} {what}, is reached. Try again later.",
        retry_after=counts.retry_after(decision.limit, subject.limits),
        limit=limit,
        of=subject.kind,
        name=decision.limit,
    )
