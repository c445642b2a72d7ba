import asyncio

from services.gateway.rag.ingest.fair_semaphore import FairSemaphore


async def test_units_are_handed_out_in_the_order_of_a_caller() -> None:
    semaphore, order = FairSemaphore(4), []

    async def work(name: str, weight: int) -> None:
        units = await semaphore.acquire(weight)
        order.append((name, units))
        await asyncio.sleep(0)
        semaphore.release(units)

    await asyncio.gather(work("a", 3), work("large", 9), work("b", 1), work("c", 2))
    assert order == [("a", 3), ("large", 4), ("b", 1), ("c", 2)]


async def test_callers_take_turns() -> None:
    semaphore, order = FairSemaphore(1), []

    async def work(caller: str, number: int) -> None:
        async with semaphore.hold(caller=caller):
            order.append(f"{caller}{number}")
            await asyncio.sleep(0)

    many = [work("many", number) for number in range(4)]
    few = [work(caller, number) for caller in "ab" for number in range(2)]
    await asyncio.gather(*many, *few)
    assert order == ["many0", "many1", "a0", "b0", "many2", "a1", "b1", "many3"]


async def test_a_cancelled_caller_returns_its_units() -> None:
    semaphore = FairSemaphore(3)
    units = await semaphore.acquire(2)
    waiting = asyncio.create_task(semaphore.acquire(2))
    granted = asyncio.create_task(semaphore.acquire(2, "other"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    semaphore.release(units)  # this grants the other's, which is cancelled before it runs
    granted.cancel()
    await asyncio.gather(granted, return_exceptions=True)
    assert await asyncio.wait_for(semaphore.acquire(3), 60) == 3


async def test_a_cancelled_caller_lets_those_behind_it_pass() -> None:
    semaphore = FairSemaphore(3)
    await semaphore.acquire(2)
    large = asyncio.create_task(semaphore.acquire(3))
    small = asyncio.create_task(semaphore.acquire(1))
    await asyncio.sleep(0)
    assert not small.done()
    large.cancel()
    assert await asyncio.wait_for(small, 60) == 1


async def test_callers_that_are_cancelled_together_return_all_units() -> None:
    semaphore = FairSemaphore(2)

    async def hold(caller: str) -> None:
        async with semaphore.hold(caller=caller):
            await asyncio.Event().wait()

    for callers in ("aaaa", "abcd", "aabb"):
        tasks = [asyncio.create_task(hold(caller)) for caller in callers]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(10):
            assert await semaphore.acquire(2) == 2
        semaphore.release(2)
