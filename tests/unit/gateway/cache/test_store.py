import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from services.errors import Failure, Unavailable
from services.gateway.cache import gdsf
from services.gateway.cache.owners import Owner
from services.gateway.cache.store import CacheStore
from tests.fakes.redis import FakeRedis

OWNER = Owner("part", "tenant")


class CountingRedis(FakeRedis):
    """Counts MGETs. The first ``lost`` of them find their connection closed."""

    def __init__(self, lost: int = 0) -> None:
        super().__init__()
        self.mgets: list[list[str]] = []
        self.lost = lost

    async def mget(self, keys: list[str]) -> list[bytes | None]:
        self.mgets.append(keys)
        if self.lost:
            self.lost -= 1
            raise RedisConnectionError("closed")
        return await super().mget(keys)


def store(redis: FakeRedis) -> CacheStore:
    return CacheStore(redis, "p:")  # type: ignore[arg-type]


def add(redis: FakeRedis, *ids: str) -> None:
    for one in ids:
        redis.values[f"p:gateway:entry:{one}"] = json.dumps({"id": one}).encode()
        redis.values.setdefault("p:gateway:entries:part", {})[one] = 0


async def test_concurrent_reads_share_commands() -> None:
    redis = CountingRedis()
    add(redis, "a", "b")
    reads = store(redis)
    records = await asyncio.gather(*(reads.get(one) for one in "abcab"))
    assert [record and record["id"] for record in records] == ["a", "b", None, "a", "b"]
    assert len(redis.mgets) == 1


async def test_a_read_is_tried_again_on_another_connection_once() -> None:
    redis = CountingRedis(lost=1)
    add(redis, "a")
    assert await store(redis).get("a") == {"id": "a"}
    redis.lost = 2
    with pytest.raises(Unavailable):
        await store(redis).get("a")


async def test_a_list_of_entries_is_read_only_once() -> None:
    redis = CountingRedis(lost=1)
    with pytest.raises(Unavailable):
        await store(redis).get_many(["a"])
    assert redis.mgets == [["p:gateway:entry:a"]]


async def test_a_read_that_redis_refuses_is_not_split() -> None:
    redis = CountingRedis()
    redis.failure = ResponseError("CLUSTERDOWN The cluster is down")
    reads = store(redis)
    outcomes = await asyncio.gather(*map(reads.get, "abcab"), return_exceptions=True)
    assert all(isinstance(one, Failure) for one in outcomes)
    assert len(redis.mgets) <= 2  # the first read on its own, then one batch


async def test_many_entries_come_in_order_without_the_missing() -> None:
    redis = FakeRedis()
    add(redis, "a", "b")
    assert await store(redis).get_many(["b", "x", "a"]) == [{"id": "b"}, {"id": "a"}]
    assert await store(redis).get_many([]) == []


async def test_pages_drop_expired_entries_from_the_list() -> None:
    redis = FakeRedis()
    add(redis, "a", "b", "c")
    del redis.values["p:gateway:entry:b"]
    first, token = await store(redis).page("part", 2, "")
    assert (first, token) == ([{"id": "a"}], "b")
    assert set(redis.values["p:gateway:entries:part"]) == {"a", "c"}
    assert await store(redis).page("part", 2, token) == ([{"id": "c"}], "")
    assert await store(redis).page("other", 2, "") == ([], "")


async def test_scripts_get_the_prefix_and_the_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.cache.store._now_ms", lambda: 1234)
    redis = FakeRedis()
    redis.script = lambda keys, arguments: [77, 7]
    record: dict[str, Any] = {"id": "a", "digest": "d", "vector": "vec", "response": "x" * 8}
    record["usage"] = {}
    writes = store(redis)
    assert await writes.put(OWNER, record, 1.5, purge_count=3) == (77, 7)
    await writes.put(OWNER, record, 0)
    redis.script = lambda keys, arguments: 77
    assert await writes.evict(1000, 100) == 77
    await writes.record_hits({"a": 2, "b": 1})
    await writes.delete(["a"])
    data = json.dumps(record, separators=(",", ":")).encode()
    size = gdsf.estimate_bytes(data, "vec")
    scripts, keys, arguments = zip(*redis.evals, strict=True)
    assert scripts == (gdsf.PUT, gdsf.PUT, gdsf.EVICT, gdsf.RECORD_HITS, gdsf.DELETE)
    assert all(one == ["p:gateway:"] for one in keys)
    assert arguments[0] == ["part", "a", data, 1500, "d", 3, size, 2, 1234, "tenant", "par"]
    assert arguments[1][3:6] == [0, "d", ""]
    assert arguments[2:] == ([1000, 1234, 100], ["a", 2, "b", 1], ["a"])


async def test_evicted_entries_are_remembered_until_search_forgets_them() -> None:
    redis = FakeRedis()
    await redis.hset("p:gateway:leaving", "a", "digest part")
    await redis.hset("p:gateway:leaving", "b", " part")
    evictions = store(redis)
    assert await evictions.removed() == {"a": ("digest", "part"), "b": ("", "part")}
    await evictions.forget_removed(["a"])
    assert list(await evictions.removed()) == ["b"]


async def test_purges_are_counted_for_the_groups_of_a_tenants_scopes() -> None:
    purges = store(FakeRedis())
    assert await purges.purge_count(OWNER) == 0
    await purges.begin_purge(OWNER)
    assert await purges.purge_count(OWNER) == 1
    assert await purges.purge_count(Owner("participle", "tenant")) == 1  # the same group
    assert await purges.purge_count(Owner("other", "tenant")) == 0
    assert await purges.purge_count(Owner("part", "another")) == 0


async def test_a_request_id_belongs_to_its_first_entry() -> None:
    redis = FakeRedis()
    claims = store(redis)
    other = Owner("other", "tenant")
    assert await claims.claim_request_id(OWNER, "r", "a") == "a"
    assert await claims.claim_request_id(OWNER, "r", "b") == "a"
    assert await claims.claim_request_id(other, "r", "b") == "b"
    long = "r" * 1_000_000
    assert await claims.claim_request_id(OWNER, long, "c") == "c"
    assert await claims.claim_request_id(OWNER, long, "d") == "c"
    assert max(map(len, redis.values)) < 100
    assert len(redis.values["p:gateway:requested:tenant"]) == 3


async def test_a_tenant_has_a_limited_number_of_request_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateway.cache.store.MAX_REQUEST_IDS", 2)
    redis = FakeRedis()
    claims = store(redis)
    for number in range(5):
        await claims.claim_request_id(OWNER, str(number), "a")
    kept = [key for key in redis.values if ":request:" in key]
    assert kept == ["p:gateway:request:part:3", "p:gateway:request:part:4"]


async def test_a_cluster_reads_each_slot_by_itself() -> None:
    """MGET of several slots is an error on a cluster."""
    commands: list[list[str]] = []

    class Cluster(RedisCluster):
        async def mget_nonatomic(self, keys: Any, *args: Any) -> list[Any]:  # type: ignore[override]
            commands.append(list(keys))
            return [json.dumps({"id": key[-1]}).encode() for key in keys]

    cluster = Cluster(startup_nodes=[ClusterNode("127.0.0.1", 1)])
    reads = CacheStore(cluster, "p:")  # type: ignore[arg-type]
    records = await asyncio.gather(reads.get("a"), reads.get("b"))
    assert [record and record["id"] for record in records] == ["a", "b"]
    assert await reads.get_many(["c"]) == [{"id": "c"}]
    assert [len(keys) for keys in commands] == [2, 1]
    await reads.close()


async def test_one_timer_limits_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class SilentRedis(FakeRedis):
        async def mget(self, keys: list[str]) -> list[bytes | None]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("services.gateway.cache.store.READ_TIMEOUT", 0.0)
    redis = SilentRedis()
    with pytest.raises(Unavailable):
        await store(redis).get("a")


async def test_closing_cancels_reads() -> None:
    class HangingRedis(FakeRedis):
        async def mget(self, keys: list[str]) -> list[bytes | None]:
            await asyncio.Event().wait()
            raise AssertionError

    reads = store(HangingRedis())
    read = asyncio.create_task(reads.get("a"))
    for _ in range(3):
        await asyncio.sleep(0)
    await reads.close()
    with pytest.raises(asyncio.CancelledError):
        await read
