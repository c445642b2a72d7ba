import asyncio
from typing import Any

import pytest

from services.gateway.coalescing import publisher as publisher_module
from services.gateway.coalescing.publisher import Publisher
from tests.fakes.leases import FakeLeases


async def leading() -> tuple[FakeLeases, Publisher]:
    leases = FakeLeases()
    return leases, Publisher(leases, "name", await leases.acquire("name"))


def numbers(leases: FakeLeases) -> list[tuple[int, list[Any]]]:
    return [(batch.first, [item["n"] for item in batch.items]) for batch in leases.batches]


async def test_items_are_published_in_numbered_batches() -> None:
    leases, publisher = await leading()
    for n in range(3):
        publisher.add({"n": n})
    await leases.wait_for(lambda: bool(leases.batches))
    publisher.add({"n": 3})
    publisher.add({"n": 4})
    await publisher.close()
    assert numbers(leases) == [(0, [0, 1, 2]), (3, [3, 4])]
    assert not leases.leader


async def test_a_failed_publish_is_the_last_and_gives_up_the_lease() -> None:
    leases, publisher = await leading()
    publisher.add({"n": 0})
    await leases.wait_for(lambda: bool(leases.batches))
    leases.failing = 1
    publisher.add({"n": 1})
    await leases.wait_for(lambda: not leases.leader)
    publisher.add({"n": 2})
    await publisher.close()
    assert numbers(leases) == [(0, [0])]


async def test_a_leader_that_has_lost_its_lease_publishes_nothing_more() -> None:
    leases, publisher = await leading()
    leases.leader = "another"
    publisher.add({"n": 0})
    await publisher.close()
    assert leases.batches == []
    assert leases.leader == "another"


async def test_with_too_many_queued_items_the_leader_gives_up_its_lease_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leases, publisher = await leading()
    started = asyncio.Event()

    async def hang(*words: Any) -> bool:
        started.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(leases, "publish", hang)
    monkeypatch.setattr(publisher_module, "MAX_QUEUED_ITEMS", 10)
    publisher.add({"n": 0})
    await started.wait()
    for n in range(1, 40):
        publisher.add({"n": n})
    async with asyncio.timeout(10):
        await leases.wait_for(lambda: not leases.leader)
    leases.leader = "the next leader"
    await publisher.close()
    assert leases.leader == "the next leader"


async def test_a_silent_redis_costs_the_leader_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, publisher = await leading()
    started = asyncio.Event()

    async def hang(*words: Any) -> bool:
        started.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(leases, "publish", hang)
    monkeypatch.setattr(publisher_module, "MAX_QUEUED_ITEMS", 10)
    publisher.add({"n": 0})
    await started.wait()
    for n in range(1, 12):
        publisher.add({"n": n})
    await publisher.close()
    assert not leases.leader


async def test_a_cancelled_leader_releases_its_lease() -> None:
    leases, publisher = await leading()
    publisher.add({"n": 0})
    await publisher.close(publish_rest=False)
    assert (leases.batches, leases.leader) == ([], "")
