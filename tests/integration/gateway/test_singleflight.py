"""Work that replicas share through a real Redis, whose connections break at random."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.errors import Aborted
from services.gateway import redis_store
from services.gateway.coalescing.leases import LeaseStore
from services.gateway.coalescing.singleflight import Item, Singleflight
from tests import flaky_redis
from tests.redis_server import RedisServer

REPLICAS, MAX_CONCURRENT = 3, 30
CHUNKS, SEED = 12, 2026


def items(name: str) -> list[Item]:
    return [*({"chunk": f"{name} {number}"} for number in range(CHUNKS)), {"done": name}]


class Work:
    """Yields the items of a name, slowly enough for followers; counts its executions."""

    def __init__(self) -> None:
        self.executions: Counter[str] = Counter()

    async def __call__(self, name: str) -> AsyncGenerator[Item]:
        self.executions[name] += 1
        for item in items(name):
            yield item
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("streams", "share"), [(60, 0.0), (300, 0.05)])
async def test_every_caller_gets_all_items_or_an_error(
    redis_url: str, prefix: str, streams: int, share: float
) -> None:
    async with flaky_redis.running(redis_url, share, SEED) as redis:
        clients = [redis_store.connect(redis.url) for _ in range(REPLICAS)]
        replicas = [Singleflight(LeaseStore(client, prefix, 1.0)) for client in clients]
        work, slots = Work(), asyncio.Semaphore(MAX_CONCURRENT)

        async def ask(name: str) -> list[str]:
            async with slots:
                return await asyncio.gather(*(listen(one, name, work) for one in replicas))

        names = [uuid.uuid4().hex for _ in range(streams // REPLICAS)]
        outcomes = Counter(one for ends in await asyncio.gather(*map(ask, names)) for one in ends)
        for replica in replicas:
            await replica.close()
        for client in clients:
            await client.aclose()
    assert outcomes["cut"] == 0
    assert sum(work.executions.values()) < streams * 0.8
    if not share:
        assert outcomes["whole"] == streams
        assert set(work.executions.values()) == {1}


async def test_a_silent_redis_does_not_hold_up_a_leader(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    client = redis_store.connect(server.url)
    singleflight, work = Singleflight(LeaseStore(client, "p:", 60.0)), Work()
    leader = singleflight.do("led", lambda: work("led")).follow()
    received = [await anext(leader)]
    server.pause()
    try:
        received += [item async for item in leader]
        assert received == items("led")
        assert await listen(singleflight, "later", work) == "whole"
    finally:
        server.resume()
        await singleflight.close()
        await client.aclose()
        server.stop()


async def listen(replica: Singleflight, name: str, work: Work) -> str:
    """Return how the items end: ``whole``, ``error``, or ``cut`` if items are missing."""
    received = []
    try:
        async for item in replica.do(name, lambda: work(name)).follow():
            received.append(item)
    except Aborted:
        return "error" if received == items(name)[: len(received)] else "cut"
    return "whole" if received == items(name) else "cut"
