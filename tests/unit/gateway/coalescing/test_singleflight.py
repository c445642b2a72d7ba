import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisAway

from services.errors import Failure, NotFound
from services.gateway.coalescing.leases import Leases, Said
from services.gateway.coalescing.singleflight import Item, Singleflight
from services.gateway.llm.client import Refused


class CoalescingBatcher(Leases):
    """Leases in a dictionary that several replicas share."""

    def __init__(self) -> None:
        self.seconds = 10.0
        self.leader, self.said, self.away = "", list[tuple[str, Item]](), False

    async def lead(self, name: str) -> str:
        if self.away:
            raise RedisAway
        if self.leader:
            return ""
        self.leader, self.said = str(id(object())), []
        return self.leader

    async def say(self, name: str, token: str, item: Item) -> bool:
        self.said.append((token, item))
        return True

    async def release(self, name: str, token: str) -> None:
        self.leader = ""

    async def renew(self, name: str, token: str) -> bool:
        return True

    async def read(self, name: str, place: str) -> Said:
        first = 0 if place == "-" else int(place)
        return Said(self.said[first:], str(len(self.said)), self.leader)


class Work:
    def __init__(self, failure: Failure | None = None) -> None:
        self.begun, self.go, self.failure = 0, asyncio.Event(), failure

    async def __call__(self) -> AsyncIterator[Item]:
        self.begun += 1
        yield {"chunk": 1}
        await self.go.wait()
        if self.failure:
            raise self.failure
        yield {"done": {"n": self.begun}}


async def gathered(flights: Singleflight, work: Work) -> list[Item]:
    return [item async for item in flights.do("x", work).follow()]


async def test_replicas_share_one_piece_of_work() -> None:
    shared, work = CoalescingBatcher(), Work()
    replicas = [Singleflight(shared) for _ in range(3)]
    tasks = [asyncio.create_task(gathered(one, work)) for one in replicas for _ in range(5)]
    await asyncio.sleep(0.1)
    work.go.set()
    assert await asyncio.gather(*tasks) == [[{"chunk": 1}, {"done": {"n": 1}}]] * 15
    assert work.begun == 1


@pytest.mark.parametrize("failure", [Refused(429, b"{}", "3"), NotFound("GONE", "It is gone.")])
async def test_all_see_the_same_failure(failure: Failure) -> None:
    shared, work = CoalescingBatcher(), Work(failure)
    tasks = [asyncio.create_task(gathered(Singleflight(shared), work)) for _ in range(3)]
    await asyncio.sleep(0.1)
    work.go.set()
    seen = await asyncio.gather(*tasks, return_exceptions=True)
    assert {(type(one), one.code, one.reason, one.retry_after) for one in seen} == {  # type: ignore[union-attr]
        (type(failure), failure.code, failure.reason, failure.retry_after)
    }
    assert work.begun == 1


async def test_without_redis_each_replica_works_alone() -> None:
    shared, work = CoalescingBatcher(), Work()
    shared.away = True
    work.go.set()
    assert (await gathered(Singleflight(shared), work))[-1] == {"done": {"n": 1}}


async def test_closing_lets_callers_know_and_gives_the_lease_back() -> None:
    shared, work = CoalescingBatcher(), Work()
    flights = Singleflight(shared)
    task = asyncio.create_task(gathered(flights, work))
    await asyncio.sleep(0.05)
    await flights.close()
    with pytest.raises(Failure, match="ask again"):
        await task
    assert not shared.leader
