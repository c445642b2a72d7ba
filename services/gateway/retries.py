"""Retries calls and runs them concurrently."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from services import deadlines
from services.errors import Failure

T = TypeVar("T")
# Seconds from the first failure to the last retry: enough for a service to restart.
PATIENCE = 120.0
_FIRST_DELAY = 0.05
_MAX_DELAY = 8.0
_JITTER = 0.5


async def retry(
    call: Callable[[], Awaitable[T]],
    *failures: type[Failure],
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Call again after failures of these types, for ``PATIENCE`` seconds after the first failure.

    The delays grow exponentially and have jitter, so that many callers do not retry at the same
    time. They are never shorter than the failure's ``retry_after``. The failure is raised at once
    if the deadline would pass during the delay.
    """
    first_failure: float | None = None
    delay = _FIRST_DELAY
    while True:
        try:
            return await call()
        except failures as failure:
            now = clock()
            first_failure = now if first_failure is None else first_failure
            jitter = random.uniform(1, 1 + _JITTER)  # noqa: S311 - not a secret
            pause = max(failure.retry_after or 0.0, delay) * jitter
            left = deadlines.time_left()
            if now + pause > first_failure + PATIENCE or (left is not None and pause > left):
                raise
            await asyncio.sleep(pause)
            delay = min(2 * delay, _MAX_DELAY)


async def gather(calls: Iterable[Coroutine[Any, Any, T]], limit: int) -> list[T]:
    """Run calls, at most ``limit`` at once; the first failure cancels the others and is raised."""
    results: dict[int, T] = {}
    remaining = enumerate(calls)

    async def run() -> None:
        for number, call in remaining:
            results[number] = await call

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(run())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [results[number] for number in range(len(results))]
