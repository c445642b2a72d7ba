from services.gateway.circuit_breaker import (
    FAILURE_THRESHOLD,
    OPEN_SECONDS,
    CircuitBreaker,
)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(clock)
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure()
    return breaker


def test_it_stays_closed_below_the_threshold() -> None:
    breaker = CircuitBreaker(Clock())
    for _ in range(3):
        for _ in range(FAILURE_THRESHOLD - 1):
            breaker.record_failure()
        assert breaker.allows()
        breaker.record_success()


def test_failures_in_a_row_open_it() -> None:
    assert not opened(Clock()).allows()


def test_half_open_it_lets_one_caller_try_per_period() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = OPEN_SECONDS + 0.1
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    clock.now += OPEN_SECONDS + 0.1
    assert breaker.allows()


def test_a_success_closes_it_and_a_failure_opens_it_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = OPEN_SECONDS + 0.1
    assert breaker.allows()
    breaker.record_failure()
    assert not breaker.allows()
    breaker.record_success()
    assert [breaker.allows(), breaker.allows()] == [True, True]
