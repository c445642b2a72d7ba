"""Maps a stream concurrently, with bounded work in progress and ordered results."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from services.gateway.rag.ingest.fair_semaphore import FairSemaphore

Item = TypeVar("Item")
Result = TypeVar("Result")


async def ordered_map(
    call: Callable[[Item], Awaitable[Result]],
    items: AsyncIterator[Item],
    weigh: Callable[[Item], int],
    capacity: int,
) -> AsyncGenerator[Result, None]:
    """Yield ``call`` of each item, in the order of the items.

    It reads items and starts calls while the weight of unfinished calls is below ``capacity``.
    If reading fails, it raises the error after the results of the earlier items. If the caller
    stops, it cancels unfinished calls.
    """
    queue: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()
    semaphore = FairSemaphore(capacity)

    async def run(item: Item, units: int) -> Result:
        try:
            return await call(item)
        finally:
            semaphore.release(units)

    async def read() -> None:
        try:
            async for item in items:
                units = await semaphore.acquire(weigh(item))
                queue.put_nowait(asyncio.create_task(run(item, units)))
        finally:
            queue.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while task := await queue.get():
            yield await task
        await reader
    finally:
        reader.cancel()
        while not queue.empty():
            if task := queue.get_nowait():
                task.cancel()
