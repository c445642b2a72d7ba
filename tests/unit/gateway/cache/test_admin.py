import asyncio
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest

from services.errors import InvalidArgument, NotFound, Unavailable
from services.gateway.backends.types import CollectionSpec, Document
from services.gateway.cache import admin as module
from services.gateway.cache import eviction
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.index import FIELDS, collection_name
from services.gateway.cache.lookup_log import LoggedLookup, LookupLog
from services.gateway.cache.purge_store import PurgeStore
from services.gateway.cache.purging import PurgeRequest
from services.gateway.cache.types import Entry, Scope
from tests.fakes.backends import FakeSearch
from tests.fakes.cache_store import FakeCacheStore, fake_scopes
from tests.fakes.redis import FakeRedis

SCOPE, OTHER = Scope("t"), Scope("u")


class House:
    """An admin over a store and a search in memory."""

    def __init__(self) -> None:
        self.scopes, self.store, self.search = fake_scopes(), FakeCacheStore(), FakeSearch()
        self.eviction = Eviction(self.store, self.search, MemoryLimits())
        purges = PurgeStore(FakeRedis(), "p:")  # type: ignore[arg-type]
        self.lookups = LookupLog(FakeRedis(), "p:", 10)  # type: ignore[arg-type]
        self.admin = CacheAdmin(
            self.scopes, self.store, purges, self.search, self.eviction, self.lookups
        )

    async def add(self, scope: Scope, key: str, digest: str = "d", **fields: object) -> None:
        _, name = await self.name(scope, digest)
        entry = Entry(key, f"What is {key}?", "!", scope, "f", {}, time.time(), 0, digest=digest)
        entry = dataclasses.replace(entry, **fields)  # type: ignore[arg-type]
        await self.store.put(await self.scopes.owner(scope), asdict(entry), 0)
        await self.search.ensure(CollectionSpec(name, 2, digest, FIELDS))
        await self.search.upsert(name, [Document(key, np.ones(2, np.float32))], digest)

    async def name(self, scope: Scope, digest: str = "d") -> tuple[str, str]:
        partition = await self.scopes.partition(scope)
        return partition, collection_name(digest, partition)


@pytest.fixture
async def house() -> House:
    house = House()
    for number in range(5):
        await house.add(SCOPE, f"e{number}", cites=[f"documents/{number % 2}"])
    await house.add(OTHER, "other")
    return house


async def test_an_entry_is_read_in_its_own_scope_only(house: House) -> None:
    assert (await house.admin.get(SCOPE, "e1")).prompt == "What is e1?"
    for scope, key in ((SCOPE, "other"), (OTHER, "e1"), (SCOPE, "nothing")):
        with pytest.raises(NotFound) as caught:
            await house.admin.get(scope, key)
        assert caught.value.reason == "ENTRY_NOT_FOUND"


async def test_a_deleted_entry_leaves_the_store_and_search(house: House) -> None:
    _, name = await house.name(SCOPE)
    await house.admin.delete(SCOPE, "e1")
    assert "e1" not in house.store.records
    assert "e1" not in house.search.documents(name)
    with pytest.raises(NotFound):
        await house.admin.delete(OTHER, "e2")


async def test_vectors_that_search_does_not_delete_are_deleted_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eviction, "RETRY_SECONDS", 0.0)
    _, name = await house.name(SCOPE)
    delete, failures = house.search.delete, [1, 1]

    async def fail_twice(collection: str, ids: Sequence[str]) -> None:
        if failures:
            failures.pop()
            raise Unavailable("SEARCH_UNAVAILABLE", "Search is unreachable.")
        await delete(collection, ids)

    monkeypatch.setattr(house.search, "delete", fail_twice)
    await house.admin.delete(SCOPE, "e1")
    assert "e1" in house.search.documents(name)
    assert house.eviction._task is not None
    await asyncio.wait_for(house.eviction._task, 30)
    assert "e1" not in house.search.documents(name)
    assert await house.store.removed() == {}


async def test_pages_hold_the_entries_of_a_scope(house: House) -> None:
    first, token = await house.admin.page(SCOPE, 3, "")
    rest, end = await house.admin.page(SCOPE, 3, token)
    assert [one.id for one in first + rest] == [f"e{number}" for number in range(5)]
    assert end == ""
    for listing, scope in ((house.admin.page, OTHER), (house.admin.purge_records, SCOPE)):
        with pytest.raises(InvalidArgument) as caught:
            await listing(scope, 3, token)
        assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_without_force_a_purge_counts_only(house: House) -> None:
    request = PurgeRequest(cites=frozenset({"documents/0"}))
    count, sample = await house.admin.purge(SCOPE, request)
    assert (count, [one.id for one in sample]) == (3, ["e0", "e2", "e4"])
    assert len(house.store.records) == 6
    assert await house.admin.purge_records(SCOPE, 10, "") == ([], "")


async def test_a_purge_deletes_and_leaves_a_record(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PURGE_PAGE", 2)
    monkeypatch.setattr(module, "SAMPLE_SIZE", 2)
    await house.add(SCOPE, "e9", digest="older-model", cites=["documents/0"])
    request = PurgeRequest(cites=frozenset({"documents/0"}), force=True)
    count, sample = await house.admin.purge(SCOPE, request)
    assert (count, len(sample)) == (4, 2)
    assert set(house.store.records) == {"e1", "e3", "other"}
    _, name = await house.name(SCOPE)
    assert {"e1", "e3"} <= set(house.search.documents(name))
    _, older = await house.name(SCOPE, "older-model")
    assert not house.search.documents(older)
    [record], _ = await house.admin.purge_records(SCOPE, 10, "")
    assert (record.count, record.filter["cites"], record.key) == (4, ["documents/0"], "")
    assert await house.store.purge_count(await house.scopes.owner(SCOPE)) == 1


async def test_deleting_everything_must_be_explicit(house: House) -> None:
    with pytest.raises(InvalidArgument):
        await house.admin.purge(SCOPE, PurgeRequest(force=True))
    count, _ = await house.admin.purge(SCOPE, PurgeRequest(force=True, everything=True))
    assert count == 5
    assert list(house.store.records) == ["other"]


async def test_the_log_forgets_deleted_entries_and_purged_prompts(house: House) -> None:
    tenant = await house.scopes.tenant_partition("t")

    async def log(*prompts: str) -> None:
        ones = [LoggedLookup(time.time(), "miss", "", "", one, one) for one in prompts]
        await house.lookups.add({tenant: ones})

    async def prompts() -> set[str]:
        return {one.prompt for one in await house.lookups.read(tenant)}

    await log("e0", "e1", "my name", "my age")
    await house.admin.delete(SCOPE, "e0")
    assert await prompts() == {"e1", "my name", "my age"}
    await house.admin.purge(SCOPE, PurgeRequest(prompt_contains="NAME"))
    assert len(await prompts()) == 3
    await house.admin.purge(SCOPE, PurgeRequest(prompt_contains="NAME", force=True))
    assert await prompts() == {"e1", "my age"}
    await house.admin.purge(SCOPE, PurgeRequest(cites=frozenset(["documents/1"]), force=True))
    assert await prompts() == {"my age"}
    await house.admin.purge(SCOPE, PurgeRequest(everything=True, force=True))
    assert await prompts() == set()
