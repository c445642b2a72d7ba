import asyncio

from services.gateway.rag.ingest.semaphore import WeightedSemaphore


async def test_places_are_taken_in_the_order_of_asking() -> None:
    places, order = WeightedSemaphore(4), []

    async def work(name: str, wanted: int) -> None:
        taken = await places.take(wanted)
        order.append((name, taken))
        await asyncio.sleep(0)
        places.give(taken)

    await asyncio.gather(work("a", 3), work("large", 9), work("b", 1), work("c", 2))
    assert order == [("a", 3), ("large", 4), ("b", 1), ("c", 2)]


async def test_who_gives_up_gives_back() -> None:
    places = WeightedSemaphore(3)
    held = await places.take(2)
    waiting = asyncio.create_task(places.take(2))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    places.give(held)
    assert await asyncio.wait_for(places.take(3), 1) == 3
