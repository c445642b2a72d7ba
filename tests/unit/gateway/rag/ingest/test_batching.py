import asyncio
from collections.abc import Sequence

import pytest

from services.errors import InvalidArgument, Unavailable
from services.gateway.rag.ingest.batching import CoalescingBatcher, Known


class Trips:
    """Doubles numbers, one trip at a time as it is let; keeps what each trip carried."""

    def __init__(self) -> None:
        self.carried: list[list[int]] = []
        self.go = asyncio.Event()
        self.away = False

    async def __call__(self, numbers: list[int]) -> Sequence[int]:
        self.carried.append(numbers)
        await self.go.wait()
        if self.away:
            raise Unavailable("AWAY", "It is away.")
        if 13 in numbers:
            raise InvalidArgument("UNLUCKY", "13 is no number.")
        return [2 * number for number in numbers]


async def under_way(
    shared: CoalescingBatcher[int, int], *asked: list[int]
) -> list[asyncio.Task[list[int]]]:
    """Ask one after the other: the first sets out before the others come."""
    tasks = []
    for items in asked:
        tasks.append(asyncio.create_task(shared.ask(items)))
        for _ in range(3):
            await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_a_trip_is_under_way_goes_together_in_the_next() -> None:
    trips = Trips()
    tasks = await under_way(
        CoalescingBatcher(trips, 4, 1), [1], [2, 3], [4], [5, 6], [7, 8, 9, 10, 11]
    )
    trips.go.set()
    assert await asyncio.gather(*tasks) == [[2], [4, 6], [8], [10, 12], [14, 16, 18, 20, 22]]
    assert trips.carried == [[1], [2, 3, 4], [5, 6], [7, 8, 9, 10, 11]]


async def test_items_weigh_what_they_weigh() -> None:
    trips = Trips()
    shared = CoalescingBatcher(trips, 10, 1, lambda number: number)
    tasks = await under_way(shared, [1], [6], [4], [5], [30])
    trips.go.set()
    await asyncio.gather(*tasks)
    assert trips.carried == [[1], [6, 4], [5], [30]]


async def test_one_callers_failure_is_no_others() -> None:
    trips = Trips()
    tasks = await under_way(CoalescingBatcher(trips, 9, 1), [1], [2], [13], [3])
    trips.go.set()
    first, second, unlucky, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, second, third) == ([2], [4], [6])
    assert isinstance(unlucky, InvalidArgument)


async def test_who_is_away_is_asked_once_for_all() -> None:
    trips = Trips()
    tasks = await under_way(CoalescingBatcher(trips, 9, 1), [1], [2], [3])
    trips.away = True
    trips.go.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in told)
    assert trips.carried == [[1], [2, 3]]


async def test_who_has_gone_is_left_out_and_the_others_are_served() -> None:
    trips = Trips()
    shared = CoalescingBatcher(trips, 9, 1)
    first, gone, last = await under_way(shared, [1], [2], [3])
    gone.cancel()
    await asyncio.sleep(0)
    trips.go.set()
    assert [await first, await last] == [[2], [6]]
    assert trips.carried == [[1], [3]]
    assert await shared.ask([]) == []


async def test_closing_ends_what_is_under_way() -> None:
    trips = Trips()
    shared = CoalescingBatcher(trips, 9, 1)
    [task] = await under_way(shared, [1])
    task.cancel()
    shared.close()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_known_is_asked_for_once_by_all() -> None:
    asked = 0

    async def trip() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return asked

    known: Known[int] = Known()
    assert await asyncio.gather(*(known.ask(trip) for _ in range(9))) == [1] * 9


async def test_what_was_not_told_is_asked_again() -> None:
    async def fails() -> int:
        raise Unavailable("AWAY", "It is away.")

    async def tells() -> int:
        return 7

    known: Known[int] = Known()
    with pytest.raises(Unavailable):
        await known.ask(fails)
    assert await known.ask(tells) == 7
