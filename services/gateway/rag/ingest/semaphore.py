"""A weighted semaphore, which bounds the work in progress."""

import asyncio


class WeightedSemaphore:
    """Hands out ``capacity`` units in the order of the callers."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = asyncio.Semaphore(capacity)
        self._queue = asyncio.Lock()

    async def acquire(self, weight: int) -> int:
        """Wait for ``weight`` units, but at most for all. Return the number of acquired units."""
        acquired = 0
        async with self._queue:
            try:
                while acquired < min(weight, self._capacity):
                    await self._free.acquire()
                    acquired += 1
            except asyncio.CancelledError:
                self.release(acquired)
                raise
        return acquired

    def release(self, units: int) -> None:
        """Give back units that ``acquire`` returned."""
        for _ in range(units):
            self._free.release()
