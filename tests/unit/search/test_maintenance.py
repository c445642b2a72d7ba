import asyncio
import time

import pytest

from services.errors import Aborted, NotFound, Unavailable
from services.search import maintenance
from services.search.engines.catalog import Catalog
from services.search.engines.record import dump_record
from services.search.service import SearchService
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis


async def test_expired_documents_and_interrupted_changes_are_taken_care_of(
    service: SearchService, redis: VectorRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = (await service.create(collection())).collection
    await service.upsert(one, [document("a", 1, 0, ttl=5.0), document("b", 1, 0)])
    other = Catalog(redis, "p:")
    target = collection(fields={"n": "number"})
    assert await other.update(await other.read("c"), target=target)
    later = time.time() + 6
    monkeypatch.setattr(time, "time", lambda: later)
    await service.maintenance.run_once()
    assert [found and found.id for found in await service.get("c", ["a", "b"])] == [None, "b"]
    assert await service.collection("c") == target


async def test_deletions_are_finished(service: SearchService, redis: VectorRedis) -> None:
    catalog = Catalog(redis, "p:")
    record = await catalog.create(collection())
    keys = catalog.keys(record)
    redis.hashes[keys.document("d")] = {"v": b""}
    redis.sorted_sets[keys.ids] = {b"d": 0}
    del redis.hashes[keys.record]
    await redis.hset("p:search:dropped", "c", dump_record(record))
    await service.maintenance.run_once()
    assert keys.document("d") not in redis.hashes


async def test_old_temporary_collections_are_deleted(
    service: SearchService, redis: VectorRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.create(collection(name=".tune-old"))
    then = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: then + 3601 * 10**9)
    await service.create(collection(name=".tune-new"))
    await service.create(collection())
    await service.maintenance.run_once()
    assert await Catalog(redis, "p:").list_names("", 10) == [".tune-new", "c"]


async def test_a_collection_that_others_change_is_skipped(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def maintain(name: str) -> None:
        seen.append(name)
        raise {"a": NotFound, "b": Aborted}.get(name, RuntimeError)("X", "x")

    for name in ("a", "b", "c"):
        await service.create(collection(name=name))
    monkeypatch.setattr(service.maintenance, "_maintain", maintain)
    with pytest.raises(RuntimeError):
        await service.maintenance.run_once()
    assert seen == ["a", "b", "c"]


async def test_maintenance_continues_after_any_error(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [Unavailable("REDIS_UNAVAILABLE", ""), RuntimeError(), asyncio.CancelledError()]

    async def run_once() -> None:
        raise errors.pop(0)

    monkeypatch.setattr(service.maintenance, "run_once", run_once)
    monkeypatch.setattr(maintenance, "INTERVAL_SECONDS", 0.0)
    with pytest.raises(asyncio.CancelledError):
        await service.maintenance.run_forever()
    assert errors == []
