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
from services.gateway.cache.owners import Owner
from services.gateway.cache.purge_store import PurgeStore
from services.gateway.cache.store import CacheStore
from services.gateway.redis_store import dump

P, Q = Owner("p", "tenant"), Owner("q", "tenant")
OTHER = Owner("r", "other")
SIZE = 2_950  # a little more than the bytes of a small entry


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
        await store.put(P, record(key), 0)
    await store.put(P, record("costly", tokens=500), 0)
    await store.put(P, record("large", size=50_000), 0)
    await store.record_hits({"used": 3, "unknown": 5})
    total = (await store.put(Q, record("other"), 0)).total
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
    await store.put(P, record("curated-a", size=50_000), 0)
    await store.put(P, record("curated-b"), 0)
    for number in range(5):
        total = (await store.put(P, record(f"{number}"), 0)).total
    await store.record_hits({"curated-a": 2})
    curated = (await store.curated_bytes(P)).total
    assert 50_000 < curated < total
    assert await store.evict(0) == 5
    assert await ids(store, "p") == ["curated-a", "curated-b"]
    assert (await store.put(P, record("new"), 0)).total > curated
    assert await store.evict(0) == 1  # the others have made the new entry no safer
    await store.put(P, record("curated-a"), 0)
    assert (await store.curated_bytes(P)).total < curated - 49_000
    await store.delete(["curated-a"])
    await store.put(P, record("curated-b"), 0.01)
    await asyncio.sleep(0.02)
    await store.evict(1e9)
    assert ((await store.curated_bytes(P)).total, await ids(store, "p")) == (0, [])


async def test_the_inflation_value_ages_entries_that_were_popular_once(store: CacheStore) -> None:
    await store.put(P, record("old"), 0)
    await store.record_hits({"old": 2})
    for number in range(20):  # every eviction raises the inflation value
        await store.put(P, record(f"{number:02}"), 0)
        await store.evict(3 * 2_900)
    assert "old" not in await ids(store, "p")
    assert "19" in await ids(store, "p")


async def test_replacing_and_deleting_keep_the_total(store: CacheStore) -> None:
    one = (await store.put(P, record("a"), 0)).total
    assert await store.put(P, record("a"), 0) == (one, one)
    larger = (await store.put(P, record("a", size=1_100), 0)).total
    assert larger == one + 1_000
    assert await store.put(P, record("b"), 0) == (larger + one, larger + one)
    await store.delete(["a", "nothing"])
    assert await store.put(P, record("b"), 0) == (one, one)


async def test_expired_entries_free_their_bytes(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = (await store.put(P, record("long"), 0)).total
    assert (await store.put(P, record("soon"), 60)).total == 2 * one
    later = round(1000 * (time.time() + 61))
    monkeypatch.setattr("services.gateway.cache.store._now_ms", lambda: later)
    assert await store.evict(10**9) == 0  # expired entries are deleted, not evicted
    assert await store.put(P, record("long"), 0) == (one, one)
    assert await ids(store, "p") == ["long"]


async def test_expired_entries_do_not_count_for_their_model(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(600):  # one script deletes 500
        await store.put(P, record(f"soon {number}"), 60)
    await store.put(P, record("long"), 0)
    models = ModelStore(store._redis, store._prefix.removesuffix("gateway:"))
    assert await models.count_by_model() == {"d": 601}
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert await models.count_by_model() == {"d": 1}


async def test_stored_entries_are_replaced_unless_they_have_changed(store: CacheStore) -> None:
    large = record("large", size=2**19)
    await store.put(P, large, 60)
    await store.put(P, record("gone"), 0)
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
    before = await store.purge_count(P)
    await store.begin_purge(P)
    assert await store.put(P, record("late"), 0, before) == (-1, -1)
    assert await store.get("late") is None
    assert (await store.put(P, record("new"), 0, before + 1)).total > 0


async def test_the_tenant_that_takes_most_is_evicted_first(store: CacheStore) -> None:
    """A tenant floods the cache with entries whose claimed costs are enormous."""
    await store.put(OTHER, record("other"), 0)
    for number in range(50):
        await store.put(P, record(f"{number:02}", tokens=10**12), 0)
    assert await store.evict(4 * SIZE) == 47
    assert [await ids(store, owner) for owner in "pr"] == [["47", "48", "49"], ["other"]]
    assert await store.evict(SIZE) == 3
    assert [await ids(store, owner) for owner in "pr"] in ([[], ["other"]], [["49"], []])


async def test_a_tenant_has_a_limit(store: CacheStore) -> None:
    await store.put(OTHER, record("other"), 0)
    for number in range(10):
        taken = await store.put(P, record(f"{number}"), 0)
    assert taken.total - taken.tenant < SIZE
    assert await store.evict(1e9, 3 * SIZE) == 7
    assert len(await ids(store, "p")) == 3
    # A tenant whose entries are all curated loses none.
    await store.delete(["other"])
    for number in range(4):
        taken = await store.put(OTHER, record(f"curated-{number}"), 0)
    assert await store.evict(1e9, 3 * SIZE) == 0
    assert len(await ids(store, "r")) == 4
    assert await store.curated_bytes(OTHER) == (taken.tenant, taken.tenant)
    assert await store.curated_bytes(P) == (taken.tenant, 0)


async def write_as_an_earlier_version(store: CacheStore, key: str, cost: str = "100") -> int:
    """Write an entry with the keys and the row that an earlier version wrote. Return its size."""
    client, prefix = store._redis, store._prefix
    size = 3_000
    await client.set(f"{prefix}entry:{key}", dump(record(key)))
    await client.hset(f"{prefix}weights", key, f"{size} {cost} 1 p d")
    await client.zadd(f"{prefix}worth", {key: float(cost) / size})
    await client.zadd(f"{prefix}entries:p", {key: 0})
    await client.incrby(f"{prefix}bytes", size)
    if cost == "inf":
        await client.incrby(f"{prefix}curated", size)
    return size


async def test_entries_of_an_earlier_version_are_evicted_too(store: CacheStore) -> None:
    for number in range(3):
        size = await write_as_an_earlier_version(store, f"old {number}")
    await write_as_an_earlier_version(store, "curated-old", "inf")
    new = await store.put(P, record("new"), 0)
    assert new == (4 * size + new.tenant, new.tenant)
    await store.record_hits({"old 2": 5})
    assert await store.evict(3 * size) == 2
    assert await ids(store, "p") == ["curated-old", "new", "old 2"]
    assert await store.removed() == {"old 0": ("d", "p"), "old 1": ("d", "p")}
    # Written again, an entry belongs to its tenant.
    assert new.tenant < (await store.put(P, record("old 2"), 0)).tenant < 2 * SIZE
    assert (await store.curated_bytes(P)).tenant == 0
    await store.put(P, record("curated-old"), 0)
    curated = await store.curated_bytes(P)
    assert 0 < curated.total == curated.tenant < SIZE
    await store.delete(["old 2", "new", "curated-old"])
    last = await store.put(P, record("last"), 0)
    assert last.total == last.tenant < SIZE


async def test_a_tenant_has_a_limited_number_of_purge_records_and_request_ids(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.cache.purge_store.MAX_TENANT_RECORDS", 3)
    monkeypatch.setattr("services.gateway.cache.store.MAX_REQUEST_IDS", 3)
    client, prefix = store._redis, store._prefix
    base = prefix.removesuffix("gateway:")
    purges, claims = PurgeStore(client, base), CacheStore(client, base)
    await purges.append(OTHER, {"count": 0})
    for number in range(10):
        owner = Owner(f"scope-{number}", "tenant")
        await purges.append(owner, {"count": number})
        await claims.begin_purge(owner)
        await claims.claim_request_id(owner, "x" * 1000, "entry")
    kept = [(await purges.page(f"scope-{number}", 9, ""))[0] for number in range(10)]
    assert kept == [[]] * 7 + [[{"count": 7}], [{"count": 8}], [{"count": 9}]]
    assert len((await purges.page("r", 9, ""))[0]) == 1
    for pattern, count in (("audit:*", 4), ("request:*", 3), ("purge_counts:*", 1)):
        assert len(await client.keys(f"{prefix}{pattern}")) == count
    assert await claims.claim_request_id(Owner("scope-9", "tenant"), "x" * 1000, "e") == "entry"


async def test_concurrent_reads_return_their_own_entries(store: CacheStore) -> None:
    for number in range(50):
        await store.put(P, record(f"{number}", size=number + 1), 0)
    keys = [f"{number % 60}" for number in range(300)]
    found = await asyncio.gather(*(store.get(key) for key in keys))
    for key, one in zip(keys, found, strict=True):
        assert (one and len(one["response"])) == (int(key) + 1 if int(key) < 50 else None)


async def test_a_cancelled_reader_leaves_the_others_alone(store: CacheStore) -> None:
    await store.put(P, record("here"), 0)
    readers = [asyncio.create_task(store.get("here")) for _ in range(20)]
    await asyncio.sleep(0)
    for reader in readers[::2]:
        reader.cancel()
    found = await asyncio.gather(*readers[1::2])
    assert all(one and one["id"] == "here" for one in found)


async def test_a_lost_connection_is_opened_again(store: CacheStore, redis_url: str) -> None:
    await store.put(P, record("here"), 0)
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
