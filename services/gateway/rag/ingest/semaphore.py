"""Bounds how much is in work at once."""

import asyncio


class WeightedSemaphore:
    """So many places; several are taken at a time, in the order of redis_errors."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._turn = asyncio.Lock()

    async def take(self, wanted: int) -> int:
        """Wait for places; return how many were taken: all there are, if more are wanted."""
        taken = 0
        async with self._turn:
            try:
                while taken < min(wanted, self._count):
                    await self._free.acquire()
                    taken += 1
            except asyncio.CancelledError:
                self.give(taken)
                raise
        return taken

    def give(self, taken: int) -> None:
        """Give places back."""
        for _ in range(taken):
            self._free.release()
