import asyncio

from services.gateway.rag.ingest.semaphore import WeightedSemaphore


async def test_units_are_handed_out_in_the_order_of_the_callers() -> None:
    semaphore, order = WeightedSemaphore(4), []

    async def work(name: str, weight: int) -> None:
        units = await semaphore.acquire(weight)
        order.append((name, units))
        await asyncio.sleep(0)
        semaphore.release(units)

    await asyncio.gather(work("a", 3), work("large", 9), work("b", 1), work("c", 2))
    assert order == [("a", 3), ("large", 4), ("b", 1), ("c", 2)]


async def test_a_cancelled_caller_returns_its_units() -> None:
    semaphore = WeightedSemaphore(3)
    units = await semaphore.acquire(2)
    waiting = asyncio.create_task(semaphore.acquire(2))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    semaphore.release(units)
    assert await asyncio.wait_for(semaphore.acquire(3), 60) == 3
