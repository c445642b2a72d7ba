"""A value that is loaded on demand and cached for a short time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
TTL = 1.0


class TtlValue(Generic[Value]):
    """Reuses a loaded value for ``TTL`` seconds; concurrent callers share one load."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loaded: list[Value] = []
        self._expires = 0.0
        self._loading = asyncio.Lock()

    def invalidate(self) -> None:
        """Make the next ``get`` load the value again."""
        self._loaded = []

    async def get(self, load: Callable[[], Awaitable[Value]]) -> Value:
        """Return the value. Load it if it is missing or has expired."""
        async with self._loading:
            if not self._loaded or self._clock() > self._expires:
                self._loaded = [await load()]
                self._expires = self._clock() + TTL
            return self._loaded[0]
