import asyncio

import pytest

from services.errors import InvalidArgument, NotFound, Overloaded, Unavailable
from services.gateway.rag.ingest.retries import MAX_RETRIES, gather, retry


class Flaky:
    """Raises its failures one by one, then returns 7."""

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


async def test_retries_end() -> None:
    call = Flaky(*(unavailable() for _ in range(2 * MAX_RETRIES)))
    with pytest.raises(Unavailable):
        await retry(call, Unavailable)
    assert call.calls == MAX_RETRIES + 1


async def test_gather_returns_results_in_order() -> None:
    async def later(number: int) -> int:
        for _ in range(9 - number):
            await asyncio.sleep(0)
        return number

    assert await gather(later(number) for number in range(9)) == list(range(9))


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
        await gather([wait(), fail()])
    assert cancelled.is_set()
