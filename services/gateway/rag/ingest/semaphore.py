"""A semaphore whose callers acquire several units at once: it bounds the work in progress."""

import asyncio


class WeightedSemaphore:
    """Hands out ``capacity`` units, first come, first served."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = asyncio.Semaphore(capacity)
        self._queue = asyncio.Lock()

    async def acquire(self, weight: int) -> int:
        """Wait for ``weight`` units, at most all of them; return how many were acquired."""
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
        """Return units that ``acquire`` handed out."""
        for _ in range(units):
            self._free.release()
