from typing import Any

import pytest

from services.errors import Aborted, AlreadyExists, NotFound, Unavailable
from services.search.engines.aliases import AliasStore
from services.search.engines.catalog import Catalog
from services.search.engines.record import Record
from tests.fakes.search import collection
from tests.fakes.search_redis import VectorRedis


async def test_a_created_collection_is_found_by_its_name(
    redis: VectorRedis, catalog: Catalog
) -> None:
    record = await catalog.create(collection())
    assert await Catalog(redis, "p:").read("c") == record
    assert await catalog.list_names("", 10) == ["c"]
    with pytest.raises(AlreadyExists):
        await catalog.create(collection())
    with pytest.raises(NotFound):
        await catalog.read("other")


async def test_a_collection_can_be_left_out_of_the_list(catalog: Catalog) -> None:
    await catalog.create(collection(name="c#000"), listed=False)
    assert await catalog.list_names("", 10) == []


async def test_names_are_listed_in_pages(catalog: Catalog) -> None:
    for name in "dacb":
        await catalog.create(collection(name=name))
    assert await catalog.list_names("", 3) == ["a", "b", "c"]
    assert await catalog.list_names("c", 3) == ["d"]


async def test_get_uses_the_cache_and_read_renews_it(redis: VectorRedis, catalog: Catalog) -> None:
    record = await catalog.create(collection())
    other = Catalog(redis, "p:")
    updated = await other.update(await other.read("c"), expiring=True)
    assert await catalog.get("c") == record
    assert await catalog.read("c") == updated
    assert await catalog.get("c") == updated


async def test_only_one_of_two_updates_wins(catalog: Catalog) -> None:
    record = await catalog.create(collection())
    updated = await catalog.update(record, expiring=True)
    assert updated
    assert (updated.version, updated.expiring) == (record.version + 1, True)
    assert await catalog.update(record, average_length=2.0) is None
    assert await catalog.read("c") == updated


async def test_an_alias_leads_to_its_collection(redis: VectorRedis, catalog: Catalog) -> None:
    record = await catalog.create(collection())
    await AliasStore(redis, "p:").assign("a", record)
    assert await catalog.read("a") == record
    with pytest.raises(AlreadyExists):
        await catalog.create(collection(name="a"))


async def test_an_attempt_is_repeated_with_the_new_record(catalog: Catalog) -> None:
    record = await catalog.create(collection())
    updated = await Catalog(catalog._redis, "p:").update(record, expiring=True)
    seen: list[Record] = []

    async def operation(current: Record) -> str | None:
        seen.append(current)
        return "done" if current == updated else None

    assert await catalog.attempt("c", operation) == "done"
    assert seen == [record, updated]


async def test_an_attempt_that_never_succeeds_is_aborted(catalog: Catalog) -> None:
    await catalog.create(collection())

    async def never(current: Record) -> Any:
        return None

    with pytest.raises(Aborted) as caught:
        await catalog.attempt("c", never)
    assert caught.value.reason == "COLLECTION_CHANGING"


async def test_a_deletion_removes_record_documents_and_stems(
    redis: VectorRedis, catalog: Catalog
) -> None:
    record = await catalog.create(collection())
    keys = catalog.keys(record)
    redis.hashes[keys.document("d")] = {"v": b"", "s": b"cat dog"}
    redis.sorted_sets[keys.ids] = {b"d": 0}
    redis.sorted_sets[keys.term_prefix + "cat"] = {b"d": 1}
    assert await catalog.delete(record)
    assert not redis.hashes.get(keys.document("d"))
    assert keys.term_prefix + "cat" not in redis.sorted_sets
    assert await catalog.list_names("", 10) == []
    assert not any(redis.hashes.values())
    with pytest.raises(NotFound):
        await catalog.get("c")


async def test_a_changed_collection_is_not_deleted(redis: VectorRedis, catalog: Catalog) -> None:
    record = await catalog.create(collection())
    await Catalog(redis, "p:").update(record, expiring=True)
    assert not await catalog.delete(record)
    assert (await catalog.read("c")).expiring
    assert not redis.hashes["p:search:dropped"]


async def test_an_interrupted_deletion_is_finished_but_not_that_of_a_live_collection(
    redis: VectorRedis, catalog: Catalog
) -> None:
    dead = await catalog.create(collection(name="dead"))
    live = await catalog.create(collection(name="live"))
    from services.search.engines.record import dump_record

    for record in (dead, live):
        keys = catalog.keys(record)
        redis.hashes[keys.document("d")] = {"v": b""}
        redis.sorted_sets[keys.ids] = {b"d": 0}
        await redis.hset("p:search:dropped", record.collection.name, dump_record(record))
    del redis.hashes[catalog.keys(dead).record]
    await catalog.purge_deleted()
    assert catalog.keys(dead).document("d") not in redis.hashes
    assert catalog.keys(live).document("d") in redis.hashes


async def test_indexes_of_the_query_engine_are_dropped(
    redis: VectorRedis, catalog: Catalog
) -> None:
    redis.query_engine = lambda *command: b"OK"
    record = await catalog.create(collection(engine="query_engine"))
    assert await catalog.delete(record)
    name = catalog.keys(record).search_index(record.index)
    assert ("FT.DROPINDEX", name) in redis.commands


async def test_without_redis_calls_are_unavailable(redis: VectorRedis, catalog: Catalog) -> None:
    redis.failure = ConnectionError()
    with pytest.raises(Unavailable):
        await catalog.list_names("", 1)
    with pytest.raises(Unavailable):
        await catalog.read("c")


class LostNode(VectorRedis):
    """A cluster that has lost the keys that contain ``lost``."""

    lost = "{c}:record"

    async def hmget(self, key: str, names: Any) -> list[bytes | None]:
        if self.lost in key:
            raise ConnectionError
        return await super().hmget(key, names)

    async def zrangebylex(self, key: str, *words: Any, **options: Any) -> list[bytes]:
        if self.lost in key:
            raise ConnectionError
        return await super().zrangebylex(key, *words, **options)


async def test_a_cluster_finds_collections_whose_node_is_lost() -> None:
    redis = LostNode()
    catalog = Catalog(redis, "p:")
    catalog._names = [f"p:search:collections{copy}" for copy in ("{a}", "{b}", "{c}")]
    sharded = collection(shards=2)
    await catalog.create(sharded)
    for number in range(2):
        shard = collection(name=f"c#{number:03}", shards=2)
        await catalog.create(shard, listed=False)
    redis.lost = "{a}"
    assert await catalog.list_names("", 10) == ["c"]
    redis.lost = "{c}:record"
    assert (await Catalog.read(catalog, "c")).collection == sharded
    redis.lost = "{c"
    with pytest.raises(Unavailable):
        await catalog.read("c")
