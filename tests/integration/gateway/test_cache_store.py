"""The cache's entries on a real Redis: GDSF eviction, purges and reads that share one command."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from services.errors import Unavailable
from services.gateway import redis_store
from services.gateway.cache.model_store import ModelStore
from services.gateway.cache.store import CacheStore


@pytest.fixture
async def store(redis_url: str, prefix: str) -> AsyncIterator[CacheStore]:
    client = redis_store.connect(redis_url)
    one = CacheStore(client, f"{prefix}store-{uuid.uuid4()}:")
    yield one
    await one.close()
    await client.aclose()


def record(key: str, tokens: int = 100, size: int = 100) -> dict[str, Any]:
    usage = {"completion_tokens": tokens}
    return {"id": key, "digest": "d", "vector": "", "usage": usage, "response": "x" * size}


async def ids(store: CacheStore, partition: str) -> list[str]:
    return [one["id"] for one in (await store.page(partition, 1000, ""))[0]]


async def test_the_lowest_gdsf_priority_is_evicted_first(store: CacheStore) -> None:
    for key in ("plain", "used"):
        await store.put("p", record(key), 0)
    await store.put("p", record("costly", tokens=500), 0)
    await store.put("p", record("large", size=50_000), 0)
    await store.record_hits({"used": 3, "unknown": 5})
    total = await store.put("q", record("other"), 0)
    assert await store.evict(total) == 0
    assert await store.evict(total - 1) == 1
    assert await ids(store, "p") == ["costly", "plain", "used"]
    assert await store.evict(7_000) == 2  # "plain" and "other" have equal priorities
    assert await ids(store, "p") == ["costly", "used"]
    assert await ids(store, "q") == []
    evicted = {"large": ("d", "p"), "plain": ("d", "p"), "other": ("d", "q")}
    assert await store.removed() == evicted
    await store.forget_removed(list(evicted))
    assert await store.removed() == {}


async def test_curated_entries_are_never_evicted(store: CacheStore) -> None:
    await store.put("p", record("curated-a", size=50_000), 0)
    await store.put("p", record("curated-b"), 0)
    for number in range(5):
        total = await store.put("p", record(f"{number}"), 0)
    await store.record_hits({"curated-a": 2})
    curated = await store.curated_bytes()
    assert 50_000 < curated < total
    assert await store.evict(0) == 5
    assert await ids(store, "p") == ["curated-a", "curated-b"]
    assert await store.put("p", record("new"), 0) > curated
    assert await store.evict(0) == 1  # the others have made the new entry no safer
    await store.put("p", record("curated-a"), 0)
    assert await store.curated_bytes() < curated - 49_000
    await store.delete(["curated-a"])
    await store.put("p", record("curated-b"), 0.01)
    await asyncio.sleep(0.02)
    await store.evict(1e9)
    assert (await store.curated_bytes(), await ids(store, "p")) == (0, [])


async def test_the_inflation_value_ages_entries_that_were_popular_once(store: CacheStore) -> None:
    await store.put("p", record("old"), 0)
    await store.record_hits({"old": 2})
    for number in range(20):  # every eviction raises the inflation value
        await store.put("p", record(f"{number:02}"), 0)
        await store.evict(3 * 2_900)
    assert "old" not in await ids(store, "p")
    assert "19" in await ids(store, "p")


async def test_replacing_and_deleting_keep_the_total(store: CacheStore) -> None:
    one = await store.put("p", record("a"), 0)
    assert await store.put("p", record("a"), 0) == one
    larger = await store.put("p", record("a", size=1_100), 0)
    assert larger == one + 1_000
    assert await store.put("p", record("b"), 0) == larger + one
    await store.delete(["a", "nothing"])
    assert await store.put("p", record("b"), 0) == one


async def test_expired_entries_free_their_bytes(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await store.put("p", record("long"), 0)
    assert await store.put("p", record("soon"), 60) == 2 * one
    later = round(1000 * (time.time() + 61))
    monkeypatch.setattr("services.gateway.cache.store._now_ms", lambda: later)
    assert await store.evict(10**9) == 0  # expired entries are deleted, not evicted
    assert await store.put("p", record("long"), 0) == one
    assert await ids(store, "p") == ["long"]


async def test_expired_entries_do_not_count_for_their_model(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(600):  # one script deletes 500
        await store.put("p", record(f"soon {number}"), 60)
    await store.put("p", record("long"), 0)
    models = ModelStore(store._redis, store._prefix.removesuffix("gateway:"))
    assert await models.count_by_model() == {"d": 601}
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert await models.count_by_model() == {"d": 1}


async def test_stored_entries_are_replaced_unless_they_have_changed(store: CacheStore) -> None:
    large = record("large", size=2**19)
    await store.put("p", large, 60)
    await store.put("p", record("gone"), 0)
    models = ModelStore(store._redis, store._prefix.removesuffix("gateway:"))
    batches = [one async for one in models.entries_of_other_models("new")]
    stored = {entry.id: entry for batch in batches for entry in batch}
    assert stored["large"].record == large
    assert 50 < stored["large"].ttl <= 60
    await store.delete(["gone"])
    for key, expected in (("large", True), ("large", False), ("gone", False)):
        assert await store.replace(stored[key], stored[key].record | {"digest": "new"}) is expected
    assert await models.count_by_model() == {"new": 1}


async def test_an_answer_from_before_a_purge_is_rejected(store: CacheStore) -> None:
    before = await store.purge_count("p")
    await store.begin_purge("p")
    assert await store.put("p", record("late"), 0, before) == -1
    assert await store.get("late") is None
    assert await store.put("p", record("new"), 0, before + 1) > 0


async def test_concurrent_reads_return_their_own_entries(store: CacheStore) -> None:
    for number in range(50):
        await store.put("p", record(f"{number}", size=number + 1), 0)
    keys = [f"{number % 60}" for number in range(300)]
    found = await asyncio.gather(*(store.get(key) for key in keys))
    for key, one in zip(keys, found, strict=True):
        assert (one and len(one["response"])) == (int(key) + 1 if int(key) < 50 else None)


async def test_a_cancelled_reader_leaves_the_others_alone(store: CacheStore) -> None:
    await store.put("p", record("here"), 0)
    readers = [asyncio.create_task(store.get("here")) for _ in range(20)]
    await asyncio.sleep(0)
    for reader in readers[::2]:
        reader.cancel()
    found = await asyncio.gather(*readers[1::2])
    assert all(one and one["id"] == "here" for one in found)


async def test_a_lost_connection_is_opened_again(store: CacheStore, redis_url: str) -> None:
    await store.put("p", record("here"), 0)
    assert await store.get("here")
    with redis.Redis.from_url(redis_url) as client:
        name = f"store-test-{uuid.uuid4()}"
        await store._reader.client_setname(name)
        for one in client.client_list(_type="normal"):
            if one["name"] == name:
                client.client_kill_filter(_id=one["id"])
    assert await store.get("here")


async def test_an_unreachable_redis_is_unavailable() -> None:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    client = redis_store.connect(f"redis://127.0.0.1:{port}")
    store = CacheStore(client, "absent:")
    outcomes = await asyncio.gather(*(store.get("x") for _ in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    await store.close()
    await client.aclose()
