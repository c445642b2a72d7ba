import asyncio
from collections.abc import Sequence

import pytest

from services.errors import InvalidArgument, Unavailable
from services.gateway.rag.ingest.batching import CoalescingBatcher


class Doubler:
    """Doubles numbers once it is let go; records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.is_unavailable = False

    async def __call__(self, numbers: list[int]) -> Sequence[int]:
        self.batches.append(numbers)
        await self.go.wait()
        if self.is_unavailable:
            raise Unavailable("UNAVAILABLE", "It is unavailable.")
        if 13 in numbers:
            raise InvalidArgument("UNLUCKY", "13 is not accepted.")
        return [2 * number for number in numbers]


async def submit_all(
    batcher: CoalescingBatcher[int, int], *requests: list[int]
) -> list[asyncio.Task[list[int]]]:
    """Submit requests one after the other; the call for the first begins before the second."""
    tasks = []
    for items in requests:
        tasks.append(asyncio.create_task(batcher.submit(items)))
        for _ in range(3):
            await asyncio.sleep(0)
    return tasks


async def test_requests_during_a_call_share_the_next_batch() -> None:
    double = Doubler()
    tasks = await submit_all(
        CoalescingBatcher(double, 4, 1), [1], [2, 3], [4], [5, 6], [7, 8, 9, 10, 11]
    )
    double.go.set()
    assert await asyncio.gather(*tasks) == [[2], [4, 6], [8], [10, 12], [14, 16, 18, 20, 22]]
    assert double.batches == [[1], [2, 3, 4], [5, 6], [7, 8, 9, 10, 11]]


async def test_batches_are_bounded_by_weight() -> None:
    double = Doubler()
    batcher = CoalescingBatcher(double, 10, 1, lambda number: number)
    tasks = await submit_all(batcher, [1], [6], [4], [5], [30])
    double.go.set()
    await asyncio.gather(*tasks)
    assert double.batches == [[1], [6, 4], [5], [30]]


async def test_calls_are_concurrent_up_to_the_maximum() -> None:
    double = Doubler()
    tasks = await submit_all(CoalescingBatcher(double, 9, 2), [1], [2], [3], [4])
    assert double.batches == [[1], [2]]
    double.go.set()
    await asyncio.gather(*tasks)
    assert double.batches == [[1], [2], [3, 4]]


async def test_an_invalid_request_fails_alone() -> None:
    double = Doubler()
    tasks = await submit_all(CoalescingBatcher(double, 9, 1), [1], [2], [13], [3])
    double.go.set()
    first, second, unlucky, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, second, third) == ([2], [4], [6])
    assert isinstance(unlucky, InvalidArgument)


async def test_an_unavailable_service_is_called_once_for_the_whole_batch() -> None:
    double = Doubler()
    tasks = await submit_all(CoalescingBatcher(double, 9, 1), [1], [2], [3])
    double.is_unavailable = True
    double.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in results)
    assert double.batches == [[1], [2, 3]]


async def test_cancelled_requests_are_left_out() -> None:
    double = Doubler()
    batcher = CoalescingBatcher(double, 9, 1)
    first, cancelled, last = await submit_all(batcher, [1], [2], [3])
    cancelled.cancel()
    await asyncio.sleep(0)
    double.go.set()
    assert [await first, await last] == [[2], [6]]
    assert double.batches == [[1], [3]]
    assert await batcher.submit([]) == []


async def test_closing_cancels_calls() -> None:
    double = Doubler()
    batcher = CoalescingBatcher(double, 9, 1)
    [task] = await submit_all(batcher, [1])
    task.cancel()
    batcher.close()
    with pytest.raises(asyncio.CancelledError):
        await task
