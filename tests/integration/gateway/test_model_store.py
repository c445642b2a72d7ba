"""Entries without a vector on a real Redis: which are listed, and what a deletion finds."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.gateway import redis_store
from services.gateway.cache.model_store import ModelStore
from services.gateway.cache.owners import Owner
from services.gateway.cache.store import CacheStore


@pytest.fixture
async def stores(redis_url: str, prefix: str) -> AsyncIterator[tuple[CacheStore, ModelStore]]:
    client, own = redis_store.connect(redis_url), f"{prefix}models-{uuid.uuid4()}:"
    store = CacheStore(client, own)
    yield store, ModelStore(client, own)
    await store.close()
    await client.aclose()


def record(key: str, digest: str) -> dict[str, Any]:
    vector = "vector" if digest else ""
    return {"id": key, "digest": digest, "vector": vector, "usage": {}, "response": "An answer."}


async def listed(models: ModelStore) -> set[str]:
    return {one.id for one in await models.entries_without_vector(100)}


async def test_an_entry_is_listed_until_it_has_a_vector(stores: Any) -> None:
    store, models = stores
    for key in ("a", "b", "c", "d"):
        await store.put(Owner("p", "t"), record(key, ""), 60)
    await store.put(Owner("p", "t"), record("indexed", "m"), 60)
    assert await listed(models) == {"a", "b", "c", "d"}
    [found] = [one for one in await models.entries_without_vector(100) if one.id == "a"]
    assert found.record == record("a", "")
    assert 0 < found.ttl <= 60
    assert await store.replace(found, record("a", "m"))
    await store.put(Owner("p", "t"), record("b", "m"), 60)
    await store.delete(["c"])
    await models.leave_without_vector(["d"])
    assert await listed(models) == set()


async def test_an_expired_entry_is_no_longer_listed(stores: Any) -> None:
    store, models = stores
    await store.put(Owner("p", "t"), record("short", ""), 0.001)
    while await store.get("short"):
        pass
    assert await listed(models) == set()


async def test_an_entry_that_loses_its_vector_is_indexed_again_and_leaves_no_vector(
    stores: Any,
) -> None:
    store, models = stores
    await store.put(Owner("p", "t"), record("a", "m"), 60)
    await store.put(Owner("p", "t"), record("a", ""), 60)  # the embedder is away
    assert await listed(models) == {"a"}
    assert await models.count_by_model() == {"m": 1}
    await store.delete(["a"])
    assert await store.removed() == {"a": ("m", "p")}
    await store.put(Owner("p", "t"), record("a", ""), 60)  # before search has deleted the vector
    await store.delete(["a"])
    assert await store.removed() == {"a": ("m", "p")}


async def test_a_vector_of_another_model_is_listed_until_search_has_deleted_it(stores: Any) -> None:
    store, _ = stores
    await store.put(Owner("p", "t"), record("a", "old"), 60)
    for _ in range(2):
        await store.put(Owner("p", "t"), record("a", "new"), 60)
        assert await store.removed() == {"a": ("old", "p")}
    await store.forget_removed(["a"])
    await store.put(Owner("p", "t"), record("a", "new"), 60)
    assert await store.removed() == {}
    await store.delete(["a"])
    await store.put(Owner("p", "t"), record("a", "new"), 60)
    assert await store.removed() == {}
