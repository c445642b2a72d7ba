"""Keeps a caller from waiting again and again for what is away."""

import time
from collections.abc import Callable

FAILURES = 3
REST = 5.0


class Breaker:
    """After some failures in a row says no for a while; then one may try again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0

    def allows(self) -> bool:
        """Say whether it is worth a try; after a rest one caller at a time finds out."""
        if self._failures < FAILURES:
            return True
        if self._clock() < self._closed_until:
            return False
        self._closed_until = self._clock() + REST
        return True

    def note(self, *, worked: bool) -> None:
        """Note how a try went."""
        self._failures = 0 if worked else self._failures + 1
        if self._failures >= FAILURES:
            self._closed_until = self._clock() + REST
