import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

import pytest

from services.gateway.rag.ingest.ordered_map import ordered_map


class Work:
    """Doubles each number when allowed.

    Records which numbers it started, finished and cancelled.
    """

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.may_end: dict[int, asyncio.Event] = {}
        self.has_begun: dict[int, asyncio.Event] = {}

    async def __call__(self, number: int) -> int:
        self.begun.append(number)
        self.event(self.has_begun, number).set()
        try:
            await self.event(self.may_end, number).wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return 2 * number

    def event(self, events: dict[int, asyncio.Event], number: int) -> asyncio.Event:
        return events.setdefault(number, asyncio.Event())

    def let_end(self, *numbers: int) -> None:
        for number in numbers:
            self.event(self.may_end, number).set()


async def stream(numbers: Iterable[int]) -> AsyncIterator[int]:
    for number in numbers:
        yield number


async def collect(results: AsyncIterator[int]) -> list[int]:
    return [result async for result in results]


async def test_results_come_in_the_order_of_the_items() -> None:
    work = Work()
    task = asyncio.create_task(collect(ordered_map(work, stream(range(4)), lambda _: 1, 4)))
    for number in (3, 2, 1, 0):
        await work.event(work.has_begun, number).wait()
        work.let_end(number)
    assert await task == [0, 2, 4, 6]


async def test_work_in_progress_is_bounded_by_weight() -> None:
    work = Work()
    task = asyncio.create_task(collect(ordered_map(work, stream([1, 2, 3, 9]), int, 5)))
    await work.event(work.has_begun, 2).wait()
    assert work.begun == [1, 2]
    work.let_end(1)
    await work.event(work.has_begun, 3).wait()
    work.let_end(2, 3)
    await work.event(work.has_begun, 9).wait()
    work.let_end(9)
    assert await task == [2, 4, 6, 18]


async def test_an_error_of_the_items_comes_after_the_results_before_it() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    work = Work()
    work.let_end(1)
    results = ordered_map(work, broken(), lambda _: 1, 4)
    assert await anext(results) == 2
    with pytest.raises(ValueError, match="broken"):
        await anext(results)


async def test_unfinished_work_is_cancelled_when_the_caller_stops() -> None:
    work = Work()
    work.let_end(0)
    async with aclosing(ordered_map(work, stream(range(3)), lambda _: 1, 9)) as results:
        assert await anext(results) == 0
        await work.event(work.has_begun, 2).wait()
    await asyncio.sleep(0)
    assert work.cancelled == [1, 2]
