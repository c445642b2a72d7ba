"""Retries calls and runs them concurrently."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from services.errors import Failure

T = TypeVar("T")
MAX_RETRIES = 30
_RETRY_AFTER = 1.0


async def retry(call: Callable[[], Awaitable[T]], *failures: type[Failure]) -> T:
    """Call again after failures of these types, up to ``MAX_RETRIES`` times.

    Before each retry it waits for the failure's ``retry_after``, or for a second if it has none.
    """
    for _ in range(MAX_RETRIES):
        try:
            return await call()
        except failures as failure:
            await asyncio.sleep(failure.retry_after or _RETRY_AFTER)
    return await call()


async def gather(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run calls concurrently; the first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]
