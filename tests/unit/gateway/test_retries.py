import asyncio

import pytest

from services import deadlines
from services.errors import InvalidArgument, NotFound, Overloaded, Unavailable
from services.gateway.retries import PATIENCE, gather, retry

BASES = [0.05 * 2**n for n in range(5)]


class Flaky:
    """Raises its failures in order, then returns 7."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return 7


def unavailable() -> Unavailable:
    return Unavailable("UNAVAILABLE", "It is unavailable.", retry_after=1e-6)


async def test_passing_failures_are_retried() -> None:
    busy = Overloaded("BUSY", "It is busy.", retry_after=1e-6)
    call = Flaky(unavailable(), busy)
    assert await retry(call, Unavailable, Overloaded) == 7
    assert call.calls == 3


async def test_other_failures_are_raised_at_once() -> None:
    call = Flaky(unavailable(), NotFound("NOT_FOUND", "It does not exist."))
    with pytest.raises(NotFound):
        await retry(call, Unavailable)
    assert call.calls == 2


async def test_retries_end_after_a_while() -> None:
    call = Flaky(*(unavailable() for _ in range(99)))
    times = iter([0.0, PATIENCE / 2, PATIENCE])
    with pytest.raises(Unavailable):
        await retry(call, Unavailable, clock=lambda: next(times))
    assert call.calls == 3


async def test_nothing_is_retried_past_the_deadline() -> None:
    call = Flaky(Unavailable("UNAVAILABLE", "It is unavailable.", retry_after=60.0))
    with deadlines.limit(30.0), pytest.raises(Unavailable):
        await retry(call, Unavailable)
    assert call.calls == 1


async def test_the_delays_grow_and_have_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await retry(Flaky(*(unavailable() for _ in range(12))), Unavailable)
    assert len(set(pauses)) == len(pauses) == 12
    assert all(2 * base <= pause < 3 * base for base, pause in zip(BASES, pauses[1:6], strict=True))
    assert all(8 <= pause <= 12 for pause in pauses[8:])
    hinted = Unavailable("UNAVAILABLE", "It is unavailable.", retry_after=5.0)
    await retry(Flaky(hinted), Unavailable)
    assert 5 <= pauses[-1] <= 7.5


async def test_gather_returns_results_in_order() -> None:
    async def later(number: int) -> int:
        for _ in range(9 - number):
            await asyncio.sleep(0)
        return number

    assert await gather((later(number) for number in range(9)), 4) == list(range(9))


async def test_the_first_failure_cancels_the_others_and_is_raised() -> None:
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise InvalidArgument("BAD", "It is not accepted.")

    with pytest.raises(InvalidArgument):
        await gather([wait(), fail()], 2)
    assert cancelled.is_set()


async def test_few_calls_run_at_once() -> None:
    running, most = 0, 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await gather((call() for _ in range(20)), 3)
    assert most == 3
