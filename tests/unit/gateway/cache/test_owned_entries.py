from dataclasses import asdict
from typing import Any, cast

from services.gateway.cache.index import collection_name
from services.gateway.cache.owned_entries import OwnedEntries
from services.gateway.cache.types import Scope
from tests.fakes.redis import FakeRedis

ANN, BOB, OTHER = Scope("acme", "ann"), Scope("acme", "bob"), Scope("globex", "ann")
PARTITIONS = {ANN: "a" * 64, BOB: "b" * 64, OTHER: "c" * 64}
DIGEST = "d" * 64


class Store:
    """The entries' records, and what is removed but still in search."""

    def __init__(self) -> None:
        self.records: dict[str, Scope] = {}
        self.leaving: dict[str, tuple[str, str]] = {}
        self.reads = 0

    async def get(self, entry_id: str) -> Any:
        self.reads += 1
        scope = self.records.get(entry_id)
        return {"scope": asdict(scope)} if scope else None

    async def delete(self, entry_ids: list[str]) -> None:
        for one in entry_ids:
            scope = self.records.pop(one)
            self.leaving[one] = DIGEST, PARTITIONS[scope]

    async def removed(self) -> dict[str, tuple[str, str]]:
        return dict(self.leaving)

    async def forget_removed(self, entry_ids: list[str]) -> None:
        for one in entry_ids:
            del self.leaving[one]


class Search:
    def __init__(self) -> None:
        self.deleted: dict[str, list[str]] = {}

    async def delete(self, collection: str, ids: list[str]) -> None:
        self.deleted.setdefault(collection, []).extend(ids)


class World:
    def __init__(self) -> None:
        self.redis = cast(Any, FakeRedis())
        self.store = cast(Any, Store())
        self.search = cast(Any, Search())
        self.entries = OwnedEntries(self.redis, "p:", self.store, self.search)
        for scope, keys in {ANN: "1234", BOB: "56", OTHER: "78"}.items():
            for key in keys:
                self.add(key, scope)

    def add(self, key: str, scope: Scope, owner: str = "") -> None:
        self.store.records[key] = scope
        row = f"10 1.0 1 {PARTITIONS[scope]}{owner} {DIGEST}"
        self.redis.values.setdefault("p:gateway:weights", {})[key] = row.encode()


async def test_the_entries_of_a_tenant_are_found_by_one_read_for_each_scope() -> None:
    world = World()
    found = await world.entries.find(lambda scope: scope.tenant == "acme")
    assert found.entries == {
        (DIGEST, PARTITIONS[ANN]): [*"1234"],
        (DIGEST, PARTITIONS[BOB]): [*"56"],
    }
    assert found.count == 6
    assert found.scopes == {PARTITIONS[ANN]: ANN, PARTITIONS[BOB]: BOB}
    assert world.store.reads == 3


async def test_an_expired_entry_does_not_hide_the_others_of_its_scope() -> None:
    world = World()
    del world.store.records["1"]
    found = await world.entries.find(lambda scope: scope == ANN)
    assert found.entries == {(DIGEST, PARTITIONS[ANN]): [*"234"]}


async def test_deleted_entries_leave_search_too() -> None:
    world = World()
    world.store.leaving = {"gone": (DIGEST, PARTITIONS[ANN]), "other": (DIGEST, PARTITIONS[OTHER])}
    await world.entries.delete(await world.entries.find(lambda scope: scope.tenant == "acme"))
    assert world.store.records.keys() == {*"78"}
    assert world.store.leaving == {"other": (DIGEST, PARTITIONS[OTHER])}
    collection = collection_name(DIGEST, PARTITIONS[ANN])
    assert {"1", "2", "3", "4", "gone"} <= {*world.search.deleted[collection]}
    assert not {*"78"} & {one for ids in world.search.deleted.values() for one in ids}


async def test_rows_may_name_their_tenant() -> None:
    world = World()
    world.add("9", ANN, "@tenant")
    found = await world.entries.find(lambda scope: scope == ANN)
    assert found.entries[DIGEST, PARTITIONS[ANN]] == [*"12349"]
