"""The cache's records on a real Redis: who is worth least, and reads of many at once."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from services.errors import Unavailable
from services.gateway import redis_store
from services.gateway.cache.store import CacheStore
from tests.ports import reserve_port


@pytest.fixture
async def shelf(redis_url: str, prefix: str) -> AsyncIterator[CacheStore]:
    client = redis_store.connect(redis_url)
    one = CacheStore(client, f"{prefix}shelf-{uuid.uuid4()}:")
    yield one
    await one.close()
    await client.aclose()


def record(key: str, tokens: int = 100, size: int = 100) -> dict[str, Any]:
    usage = {"completion_tokens": tokens}
    return {"id": key, "digest": "d", "vector": "", "usage": usage, "response": "x" * size}


async def kept(shelf: CacheStore, partition: str) -> list[str]:
    return [one["id"] for one in (await shelf.entries(partition, 1000, ""))[0]]


async def test_costly_and_used_and_small_and_new_stay(shelf: CacheStore) -> None:
    for key in ("plain", "used"):
        await shelf.write("p", record(key), 0)
    await shelf.write("p", record("costly", tokens=500), 0)
    await shelf.write("p", record("large", size=50_000), 0)
    await shelf.touch({"used": 3, "unknown": 5})
    taken = await shelf.write("q", record("other"), 0)
    assert await shelf.evict(taken) == 0
    assert await shelf.evict(taken - 1) == 1
    assert await kept(shelf, "p") == ["costly", "plain", "used"]
    assert await shelf.evict(7_000) == 2  # "plain" and "other" were worth the same
    assert await kept(shelf, "p") == ["costly", "used"]
    assert await kept(shelf, "q") == []
    assert await shelf.leaving() == {
        "large": ("d", "p"), "plain": ("d", "p"), "other": ("d", "q")
    }  # fmt: skip
    await shelf.left(["large", "plain", "other"])
    assert await shelf.leaving() == {}


async def test_what_is_old_goes_though_it_was_used(shelf: CacheStore) -> None:
    await shelf.write("p", record("old"), 0)
    await shelf.touch({"old": 2})
    taken = 0
    for number in range(20):  # the floor rises with every eviction
        taken = await shelf.write("p", record(f"{number:02}"), 0)
        await shelf.evict(3 * 2_900)
    assert taken > 0
    assert "old" not in await kept(shelf, "p")
    assert "19" in await kept(shelf, "p")


async def test_replacing_and_deleting_keep_the_sum(shelf: CacheStore) -> None:
    one = await shelf.write("p", record("a"), 0)
    assert await shelf.write("p", record("a"), 0) == one
    larger = await shelf.write("p", record("a", size=1_100), 0)
    assert larger == one + 1_000
    assert await shelf.write("p", record("b"), 0) == larger + one
    await shelf.delete(["a", "nothing"])
    assert await shelf.write("p", record("b"), 0) == one


async def test_what_has_expired_is_forgotten(shelf: CacheStore) -> None:
    await shelf.write("p", record("soon"), 0.05)
    one = await shelf.write("p", record("long"), 60) / 2
    await asyncio.sleep(0.2)
    assert await shelf.evict(10**9) == 0
    assert await shelf.write("p", record("long"), 60) == one


async def test_a_purged_partition_takes_nothing_from_before(shelf: CacheStore) -> None:
    before = await shelf.purges("p")
    await shelf.begin_purge("p")
    assert await shelf.write("p", record("late"), 0, before) == -1
    assert await shelf.entry("late") is None
    assert await shelf.write("p", record("new"), 0, before + 1) > 0


async def test_many_read_at_once_and_each_gets_its_own(shelf: CacheStore) -> None:
    for number in range(50):
        await shelf.write("p", record(f"{number}", size=number + 1), 0)
    keys = [f"{number % 60}" for number in range(300)]
    found = await asyncio.gather(*(shelf.entry(key) for key in keys))
    for key, one in zip(keys, found, strict=True):
        assert (one and len(one["response"])) == (int(key) + 1 if int(key) < 50 else None)


async def test_a_reader_who_leaves_takes_nobody_with_him(shelf: CacheStore) -> None:
    await shelf.write("p", record("here"), 0)
    readers = [asyncio.create_task(shelf.entry("here")) for _ in range(20)]
    await asyncio.sleep(0)
    for reader in readers[::2]:
        reader.cancel()
    found = await asyncio.gather(*readers[1::2])
    assert all(one and one["id"] == "here" for one in found)


async def test_a_connection_that_was_lost_is_opened_again(
    shelf: CacheStore, redis_url: str
) -> None:
    await shelf.write("p", record("here"), 0)
    assert await shelf.entry("here")
    with redis.Redis.from_url(redis_url) as client:
        for one in client.client_list(_type="normal"):
            if int(one["id"]) != int(client.client_id()):
                client.client_kill_filter(_id=one["id"])
    assert await shelf.entry("here")


async def test_who_asks_an_absent_redis_is_told() -> None:
    client = redis_store.connect(f"redis://127.0.0.1:{reserve_port()}")
    shelf = CacheStore(client, "absent:")
    for found in await asyncio.gather(
        *(shelf.entry("x") for _ in range(5)), return_exceptions=True
    ):
        assert isinstance(found, Unavailable)
    await shelf.close()
    await client.aclose()
