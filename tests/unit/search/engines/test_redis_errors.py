import asyncio
import contextlib

import pytest
from redis import exceptions

from services import deadlines
from services.errors import DeadlineExceeded, Failure, NotFound, Overloaded, Unavailable
from services.search.engines import redis_errors as module
from services.search.engines.redis_errors import redis_errors, retry_reads


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ConnectionError(), Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.ConnectionError(), Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.TimeoutError(), Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.ReadOnlyError(), Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.ClusterDownError("CLUSTERDOWN"), Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.ResponseError("LOADING"), Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.OutOfMemoryError("OOM"), Overloaded, "REDIS_OUT_OF_MEMORY"),
        (exceptions.ResponseError("script: OOM command"), Overloaded, "REDIS_OUT_OF_MEMORY"),
        (exceptions.ResponseError("WRONGTYPE secret"), Failure, "REDIS_REFUSED"),
        (NotFound("X", "x"), NotFound, "X"),
    ],
)
async def test_errors_become_failures(error: Exception, kind: type, reason: str) -> None:
    with pytest.raises(Failure) as caught:
        async with redis_errors():
            raise error
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert "secret" not in caught.value.message


async def test_a_silent_redis_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REDIS_TIMEOUT", 0.01)
    with pytest.raises(Unavailable):
        async with redis_errors():
            await asyncio.Event().wait()


async def test_the_deadline_of_the_call_ends_the_wait() -> None:
    with deadlines.limit(0.03), pytest.raises(DeadlineExceeded):
        async with redis_errors():
            await asyncio.Event().wait()


class Flaky:
    """Raises the failures in order, then succeeds."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = list(failures)
        self.calls = 0

    @retry_reads
    async def read(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "read"


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Records the delays before retries, without waiting."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return found


def away() -> Unavailable:
    return Unavailable("REDIS_UNAVAILABLE", "")


async def test_reads_are_retried_twice(delays: list[float]) -> None:
    assert await Flaky(away(), away()).read() == "read"
    assert 0.025 <= delays[0] <= 0.075
    assert 0.15 <= delays[1] <= 0.45
    flaky = Flaky(away(), away(), away())
    with pytest.raises(Unavailable):
        await flaky.read()
    assert flaky.calls == 3


async def test_other_failures_are_not_retried(delays: list[float]) -> None:
    flaky = Flaky(NotFound("X", "x"))
    with pytest.raises(NotFound):
        await flaky.read()
    assert (flaky.calls, delays) == (1, [])


async def test_a_read_that_has_waited_for_long_is_not_retried(
    delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_RETRIED_SECONDS", -1.0)
    flaky = Flaky(away())
    with pytest.raises(Unavailable):
        await flaky.read()
    assert (flaky.calls, delays) == (1, [])


async def test_a_read_is_not_retried_beyond_the_deadline(delays: list[float]) -> None:
    flaky = Flaky(away())
    with deadlines.limit(0.03), contextlib.suppress(Unavailable, DeadlineExceeded):
        await flaky.read()
    assert (flaky.calls, delays) == (1, [])
