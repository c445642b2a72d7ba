"""A weighted semaphore that serves its callers in turn, so that none of them starves the rest."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass


@dataclass(eq=False)
class _Waiter:
    weight: int
    granted: "asyncio.Future[None]"


class FairSemaphore:
    """Hands out ``capacity`` units.

    Each caller has its own queue. Callers with waiting requests take turns of one acquisition each
    (round-robin scheduling).
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = self._free = capacity
        self._queues: dict[Hashable, deque[_Waiter]] = {}  # in the order of the turns

    async def acquire(self, weight: int = 1, caller: Hashable = None) -> int:
        """Wait for ``weight`` units, but at most for all. Return the number of acquired units."""
        waiter = _Waiter(min(weight, self._capacity), asyncio.get_running_loop().create_future())
        self._queues.setdefault(caller, deque()).append(waiter)
        self._grant()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.release(waiter.weight)
            else:
                self._leave(caller, waiter)
            raise
        return waiter.weight

    def release(self, units: int) -> None:
        """Release units that ``acquire`` returned."""
        self._free += units
        self._grant()

    @contextlib.asynccontextmanager
    async def hold(self, weight: int = 1, caller: Hashable = None) -> AsyncIterator[None]:
        """Hold units for a block."""
        units = await self.acquire(weight, caller)
        try:
            yield
        finally:
            self.release(units)

    def _grant(self) -> None:
        """Serve the callers in turn, until the next one needs more units than are free."""
        while self._queues:
            caller, queue = next(iter(self._queues.items()))
            # A waiter that was cancelled in this turn of the loop has not left its queue yet.
            while queue and queue[0].granted.cancelled():
                queue.popleft()
            if not queue:
                del self._queues[caller]
                continue
            if queue[0].weight > self._free:
                return
            waiter = queue.popleft()
            self._free -= waiter.weight
            waiter.granted.set_result(None)
            del self._queues[caller]
            if queue:
                self._queues[caller] = queue  # at the end of the round

    def _leave(self, caller: Hashable, waiter: _Waiter) -> None:
        """Remove a waiter whose caller has stopped waiting."""
        queue = self._queues.get(caller, deque())
        if waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[caller]
        self._grant()
