"""Counts what the cache did: for Prometheus at once, for all replicas in Redis every second."""

import asyncio
import contextlib
import math
from collections import Counter

from prometheus_client import Counter as Metric

from services.errors import Failure
from services.gateway.entries import Decision
from services.gateway.ledger import Ledger

PERIOD = 1.0
DECISIONS = Metric("memetwin_cache_decisions_total", "Decisions of the cache.", ["kind"])
SAVED = Metric("memetwin_cache_saved_tokens_total", "Tokens that hits spared.", ["of"])
_Z = 1.96


class Tally:
    """Counters by partition, of this process, on their way to the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counts: dict[str, Counter[str]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, partition: str, decision: Decision) -> None:
        """Count a decision."""
        counts: Counter[str] = Counter({decision.kind: 1})
        DECISIONS.labels(decision.kind).inc()
        if decision.entry:
            for name, tokens in decision.entry.usage.items():
                counts[name] += tokens
                SAVED.labels(name).inc(tokens)
        if decision.kind == "semantic" and decision.probability is not None:
            counts["expected_wrong"] += 1 - decision.probability  # type: ignore[assignment]
        self._counts.setdefault(partition, Counter()).update(counts)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._later())

    async def flush(self, partition: str) -> None:
        """Write a partition's counts; what cannot be written is lost: numbers are no answers."""
        counts = self._counts.pop(partition, None)
        if counts:
            await self._ledger.count(partition, dict(counts))

    async def close(self) -> None:
        """Write all counts."""
        if self._task:
            self._task.cancel()
        await self._flush_all()

    async def _later(self) -> None:
        while self._counts:
            await asyncio.sleep(PERIOD)
            await self._flush_all()

    async def _flush_all(self) -> None:
        for partition in list(self._counts):
            with contextlib.suppress(Failure):
                await self.flush(partition)


def wilson(part: float, whole: float) -> tuple[float, float, float]:
    """Return a share and its 95 % interval (E. B. Wilson, 1927); of nothing it is 0, 0 to 1."""
    if not whole:
        return 0.0, 0.0, 1.0
    share, square = part / whole, _Z**2 / whole
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / whole + square / whole / 4) / (1 + square)
    return share, max(0.0, middle - half), min(1.0, middle + half)
