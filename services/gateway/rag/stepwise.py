"""Iterates over many items in steps, and lets other tasks run between the steps."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


async def stepwise(items: Iterable[Item], step: int) -> AsyncIterator[Item]:
    """Yield items, and let other tasks run after every ``step`` of them."""
    for number, item in enumerate(items, 1):
        yield item
        if number % step == 0:
            await asyncio.sleep(0)


async def take(items: AsyncIterator[Item], count: int) -> list[Item]:
    """Return the first ``count`` items."""
    taken: list[Item] = []
    async for item in items:
        taken.append(item)
        if len(taken) == count:
            break
    return taken
