import asyncio
from collections.abc import Sequence

import pytest

from services import deadlines
from services.errors import DeadlineExceeded, InvalidArgument, Unavailable
from services.gateway.coalescing.batcher import CoalescingBatcher


class Doubler:
    """Doubles numbers, one batch at a time once `go` is set; records what each batch held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.unavailable = False

    async def __call__(self, numbers: list[int]) -> Sequence[int]:
        self.batches.append(numbers)
        await self.go.wait()
        if self.unavailable:
            raise Unavailable("UNREACHABLE", "The service is unreachable.")
        if 13 in numbers:
            raise InvalidArgument("UNLUCKY", "13 is not allowed.")
        return [2 * number for number in numbers]


async def submit_in_order(
    batcher: CoalescingBatcher[int, int], *requests: list[int]
) -> list[asyncio.Task[list[int]]]:
    """Submit requests one after another. The first is sent before the others arrive."""
    tasks = []
    for items in requests:
        tasks.append(asyncio.create_task(batcher.submit(items)))
        for _ in range(3):
            await asyncio.sleep(0)
    return tasks


async def test_requests_that_arrive_during_a_call_share_the_next_batch() -> None:
    doubler = Doubler()
    batcher = CoalescingBatcher(doubler, 4, 1)
    tasks = await submit_in_order(batcher, [1], [2, 3], [4], [5, 6], [7, 8, 9, 10, 11])
    doubler.go.set()
    assert await asyncio.gather(*tasks) == [[2], [4, 6], [8], [10, 12], [14, 16, 18, 20, 22]]
    assert doubler.batches == [[1], [2, 3, 4], [5, 6], [7, 8, 9, 10, 11]]


async def test_several_calls_run_at_once_where_the_limit_allows() -> None:
    doubler = Doubler()
    tasks = await submit_in_order(CoalescingBatcher(doubler, 9, 2), [1], [2], [3])
    assert doubler.batches == [[1], [2]]
    doubler.go.set()
    assert await asyncio.gather(*tasks) == [[2], [4], [6]]


async def test_the_weight_of_items_limits_a_batch() -> None:
    doubler = Doubler()
    batcher = CoalescingBatcher(doubler, 10, 1, lambda number: number)
    tasks = await submit_in_order(batcher, [1], [6], [4], [5], [30])
    doubler.go.set()
    await asyncio.gather(*tasks)
    assert doubler.batches == [[1], [6, 4], [5], [30]]


async def test_a_bad_item_fails_its_own_caller_only() -> None:
    doubler = Doubler()
    tasks = await submit_in_order(CoalescingBatcher(doubler, 9, 1), [1], [2], [13], [3])
    doubler.go.set()
    first, second, unlucky, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, second, third) == ([2], [4], [6])
    assert isinstance(unlucky, InvalidArgument)


async def test_a_failed_batch_is_not_sent_again_if_no_item_can_be_bad() -> None:
    doubler = Doubler()
    batcher = CoalescingBatcher(doubler, 9, 1, isolate_failures=False)
    tasks = await submit_in_order(batcher, [1], [2], [13], [3])
    doubler.go.set()
    first, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert first == [2]
    assert all(isinstance(one, InvalidArgument) for one in others)
    assert doubler.batches == [[1], [2, 13, 3]]


async def test_an_unavailable_service_is_called_once_for_the_whole_batch() -> None:
    doubler = Doubler()
    tasks = await submit_in_order(CoalescingBatcher(doubler, 9, 1), [1], [2], [3])
    doubler.unavailable = True
    doubler.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert doubler.batches == [[1], [2, 3]]


async def test_a_cancelled_caller_leaves_the_batch_and_the_others_are_served() -> None:
    doubler = Doubler()
    batcher = CoalescingBatcher(doubler, 9, 1)
    first, cancelled, last = await submit_in_order(batcher, [1], [2], [3])
    cancelled.cancel()
    await asyncio.sleep(0)
    doubler.go.set()
    assert [await first, await last] == [[2], [6]]
    assert doubler.batches == [[1], [3]]
    assert await batcher.submit([]) == []


async def test_a_batcher_works_again_after_a_failure() -> None:
    doubler = Doubler()
    doubler.go.set()
    batcher = CoalescingBatcher(doubler, 9, 1)
    with pytest.raises(InvalidArgument):
        await batcher.submit([13])
    assert await batcher.submit([1]) == [2]


async def test_closing_cancels_calls_under_way_and_requests_that_wait() -> None:
    doubler = Doubler()
    batcher = CoalescingBatcher(doubler, 9, 1)
    tasks = await submit_in_order(batcher, [1], [2])
    batcher.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)


async def test_a_caller_without_time_does_not_fail_the_callers_behind_it() -> None:
    doubler = Doubler()
    left: list[float | None] = []

    async def call(numbers: list[int]) -> Sequence[int]:
        left.append(deadlines.time_left())
        return await doubler(numbers)

    batcher = CoalescingBatcher(call, 9, 1)
    with deadlines.limit(0.0):
        tasks = await submit_in_order(batcher, [1], [2])
    doubler.go.set()
    assert await asyncio.gather(*tasks) == [[2], [4]]
    assert len(left) == len(doubler.batches)


async def test_a_batch_past_its_deadline_is_not_sent_again() -> None:
    calls = []

    async def call(numbers: list[int]) -> Sequence[int]:
        calls.append(numbers)
        await asyncio.sleep(0)
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "Too late.")

    tasks = await submit_in_order(CoalescingBatcher(call, 9, 1), [1], [2], [3])
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in failures} == {DeadlineExceeded}
    assert sum(map(len, calls)) == 3
