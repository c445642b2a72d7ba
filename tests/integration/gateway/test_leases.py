"""The scripts of leases on a real Redis."""

import uuid
from collections.abc import AsyncIterator

import pytest

from services.gateway import redis_store
from services.gateway.coalescing.leases import STREAM_START, Batch, LeaseStore


@pytest.fixture
async def leases(redis_url: str, prefix: str) -> AsyncIterator[LeaseStore]:
    client = redis_store.connect(redis_url)
    yield LeaseStore(client, prefix, 60.0)
    await client.aclose()


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


async def test_one_holds_a_lease_until_it_is_released(leases: LeaseStore, name: str) -> None:
    token = await leases.acquire(name)
    assert token
    assert await leases.acquire(name) == ""
    assert await leases.renew(name, token)
    await leases.release(name, "another token")
    assert (await leases.read(name, STREAM_START)).leader == token
    await leases.release(name, token)
    assert (await leases.read(name, STREAM_START)).leader == ""
    assert await leases.acquire(name) not in ("", token)


async def test_only_the_holder_publishes(leases: LeaseStore, name: str) -> None:
    token = await leases.acquire(name)
    assert await leases.publish(name, token, 0, [{"chunk": "ö"}])
    assert not await leases.publish(name, "another token", 1, [{"chunk": 2}])
    assert (await leases.read(name, STREAM_START)).batches == [Batch(token, 0, [{"chunk": "ö"}])]


async def test_what_a_former_holder_does_changes_nothing(leases: LeaseStore, name: str) -> None:
    former = await leases.acquire(name)
    assert await leases.publish(name, former, 0, [{"chunk": 1}])
    await leases.release(name, former)  # as if it had expired
    token = await leases.acquire(name)
    assert not await leases.renew(name, former)
    assert not await leases.publish(name, former, 1, [{"chunk": 2}])
    await leases.release(name, former)
    published = await leases.read(name, STREAM_START)
    assert (published.leader, published.batches) == (token, [])


async def test_a_lease_that_is_not_renewed_ends(
    leases: LeaseStore, name: str, redis_url: str, prefix: str
) -> None:
    client = redis_store.connect(redis_url)
    short = LeaseStore(client, prefix, 0.05)
    token = await short.acquire(name)
    assert token
    taken = ""
    while not taken:
        taken = await leases.acquire(name)
    assert not await short.renew(name, token)
    await client.aclose()
