"""The stores of documents, twins and leases on a Redis Cluster, which checks the slots of keys."""

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from services import redis_client
from services.gateway import redis_store
from services.gateway.admin.store import OwnedKeys
from services.gateway.cache.model_store import ModelStore
from services.gateway.cache.owners import Owner
from services.gateway.cache.store import CacheStore
from services.gateway.coalescing.leases import STREAM_START, LeaseStore
from services.gateway.migration import Migration
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.rag.store import CalibrationStore
from services.gateway.tenants import DEFAULT_TENANT, Tenant
from services.gateway.twins.store import TwinStore
from tests.redis_topologies import Cluster

TENANTS = [DEFAULT_TENANT, Tenant("0af9" * 8)]
KEYS = ["a.md", "}", "{b}", "c:d"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: Any) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
async def redis(cluster: Cluster) -> AsyncIterator[Any]:
    redis = redis_store.connect(cluster.url)
    yield redis
    await redis_client.close(redis)


@pytest.mark.parametrize("tenant", TENANTS)
async def test_documents(redis: Any, tenant: Tenant) -> None:
    store = DocumentStore(redis, "p:")
    names = ["notes", "papers", "A-b_c.9"]
    collections = [DocumentCollection(name, tenant) for name in names]
    for collection in collections:
        for key in KEYS:
            lease = await store.acquire(collection, key, [f"{key}#0"])
            await store.put(lease, {"id": key, "text": f"Text of {key}"}, [f"{key}#0"])
        await store.revoke_leases(collection)
        await store.delete(await store.acquire(collection, "c:d", []))
        records, token = await store.page(collection, 2, "")
        rest, _ = await store.page(collection, 2, token)
        assert [one["id"] for one in (*records, *rest)] == ["a.md", "{b}", "}"]
        assert await store.get(collection, "}") == {"id": "}", "text": "Text of }"}
        assert await store.unlisted(collection, ["a.md#0", "c:d#0"]) == {"c:d#0"}
    assert [one > 0 for one in await store.epochs(collections)] == [True] * len(names)
    assert {one for one in await store.collections() if one.tenant == tenant} == {*collections}
    calibrations = CalibrationStore(redis, "p:", store)
    await calibrations.put(collections[0], "digest", {"min_score": 0.5})
    found = await calibrations.get(collections, "digest")
    assert found == [{"min_score": 0.5}, None, None]


@pytest.mark.parametrize("tenant", TENANTS)
async def test_twins(redis: Any, tenant: Tenant) -> None:
    twins = TwinStore(redis, "p:")
    for key in KEYS:
        await twins.put(tenant, {"id": key}, key.encode(), ["c", "d"])
    await twins.remove_collections(tenant, "}", ["d"])
    assert await twins.collections(tenant, "}") == {"c"}
    assert await twins.get_many(tenant, [*KEYS, "x"]) == [*({"id": key} for key in KEYS), None]
    await twins.delete(tenant, "}")
    records, _ = await twins.page(tenant, 9, "")
    assert [one["id"] for one in records] == ["a.md", "c:d", "{b}"]
    assert await twins.picture(tenant, "{b}") == b"{b}"


async def test_leases(redis: Any) -> None:
    leases = LeaseStore(redis, "p:", 10.0)
    for name in ("ask:}{", "chat", "{x}"):
        token = await leases.acquire(name)
        assert await leases.publish(name, token, 0, [{"delta": name}])
        published = await leases.read(name, STREAM_START)
        assert (published.leader, published.batches[0].items) == (token, [{"delta": name}])
        assert await leases.renew(name, token)
        await leases.release(name, token)


async def test_a_tenants_keys_are_deleted_on_every_node(redis: Any) -> None:
    twins = TwinStore(redis, "deletion:")
    for tenant in TENANTS:
        for number in range(20):
            await twins.put(tenant, {"id": f"twin {number}"}, b"x", ["c"])
    keys, tag = OwnedKeys(redis, "deletion:"), TENANTS[1].hash_tag("").removesuffix("}")
    assert (await keys.count(tag, set()))["twin-record"] == 20
    await keys.delete(tag, set())
    assert not await keys.count(tag, set())
    assert len((await twins.page(DEFAULT_TENANT, 99, ""))[0]) == 20


async def test_cache_entries(redis: Any) -> None:
    store, models = CacheStore(redis, "p:"), ModelStore(redis, "p:")
    record = {"digest": "d", "vector": "", "usage": {}, "response": "x"}
    for number in range(20):
        owner = Owner(f"{number % 3}" * 64, "a" * 64)
        await store.put(owner, record | {"id": str(number)}, 0.0)
    assert [one["id"] for one in await store.get_many(["3", "7", "x"])] == ["3", "7"]
    await store.record_hits({"7": 3})
    await store.delete(["3"])
    assert await models.count_by_model() == {"d": 19}
    assert await store.evict(5_000, math.inf) == 18
    assert await store.get("7") is not None
    await store.close()


async def test_an_empty_cluster_is_migrated(redis: Any) -> None:
    migration = Migration(redis, "empty:")
    await migration.run()
    migration.check()
