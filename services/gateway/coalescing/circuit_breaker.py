"""A circuit breaker: callers stop waiting for a dependency that keeps failing.

See https://martinfowler.com/bliki/CircuitBreaker.html.
"""

import time
from collections.abc import Callable

FAILURE_THRESHOLD = 3
OPEN_SECONDS = 5.0


class CircuitBreaker:
    """Opens after ``FAILURE_THRESHOLD`` failures in a row, for ``OPEN_SECONDS``.

    After that it is half open: one caller every ``OPEN_SECONDS`` may try, until one succeeds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Return whether the caller may try."""
        if self._failures < FAILURE_THRESHOLD:
            return True
        if self._clock() < self._open_until:
            return False
        self._open_until = self._clock() + OPEN_SECONDS
        return True

    def record_success(self) -> None:
        """Close the breaker."""
        self._failures = 0

    def record_failure(self) -> None:
        """Count a failure, and open the breaker at the threshold."""
        self._failures += 1
        if self._failures >= FAILURE_THRESHOLD:
            self._open_until = self._clock() + OPEN_SECONDS
