"""A circuit breaker: after repeated failures of a dependency, calls to it fail fast.

See https://martinfowler.com/bliki/CircuitBreaker.html.
"""

import time
from collections.abc import Callable

FAILURE_THRESHOLD = 3
OPEN_SECONDS = 5.0


class CircuitBreaker:
    """Opens for ``OPEN_SECONDS`` after ``FAILURE_THRESHOLD`` consecutive failures.

    The breaker is then half open: it allows one call every ``OPEN_SECONDS`` until a call succeeds.
    Record only failures that show that the dependency is broken. A rejected request is a success,
    because the dependency has answered.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    @property
    def retry_after(self) -> float:
        """Seconds until the breaker allows another call."""
        return max(0.1, self._open_until - self._clock())

    def allows(self) -> bool:
        """Return whether the caller may call the dependency."""
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
