import asyncio
import contextvars
import time
from typing import Any, cast

import pytest

from services.errors import PermissionDenied
from services.gateway.admin.service import AdminService
from services.gateway.admin.store import OwnedKeys
from services.gateway.admin.types import DeletedData
from services.gateway.auth.caller import set_caller
from services.gateway.backends.collections import CollectionInfo
from services.gateway.cache.lookup_log import LoggedLookup, LookupLog
from services.gateway.cache.owned_entries import Found
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.types import Scope
from services.gateway.shared_secret import SharedSecret
from services.key_file import Key
from tests.fakes.redis import FakeRedis
from tests.fakes.tenants import fake_tenants


class Entries:
    """An entry in each scope."""

    def __init__(self, partitions: dict[Scope, str]) -> None:
        self.partitions = partitions
        self.deleted: list[Scope] = []

    async def find(self, owns: Any) -> Found:
        found = Found()
        for scope, partition in self.partitions.items():
            if owns(scope):
                found.scopes[partition] = scope
                found.entries["digest", partition].append(f"entry of {scope}")
        return found

    async def delete(self, found: Found) -> None:
        self.deleted += found.scopes.values()


class Collections:
    def __init__(self, *names: str) -> None:
        self.names = {*names}

    async def list_all(self) -> list[CollectionInfo]:
        return [CollectionInfo(name, "digest", 1) for name in sorted(self.names)]

    async def delete(self, name: str) -> None:
        self.names.remove(name)


class World:
    def __init__(self, redis: Any, partitions: dict[Scope, str], acme: Any) -> None:
        self.redis = redis
        self.acme = acme
        self.entries = cast(Any, Entries(partitions))
        shared = ("cache-digest-1", ".tune-x")
        own = [acme.collection_name(name) for name in ("documents-notes", "pages")]
        self.collections = cast(Any, Collections("documents-notes", *shared, *own))
        self.redis.values = {
            f"p:gateway:{name}": b""
            for name in (
                f"document:{acme.hash_tag('notes')}:a",
                f"epoch:{acme.hash_tag('notes')}",
                f"twin-record:{acme.hash_tag('fox')}",
                "document:{/notes}:a",
                *(f"stats:{partition}" for partition in partitions.values()),
            )
        }
        self.service = AdminService(
            fake_tenants(),
            Scopes(SharedSecret(redis, "other:")),
            self.entries,
            OwnedKeys(redis, "p:"),
            self.collections,
            names=ScopeNames(redis, "p:"),
            lookups=LookupLog(redis, "p:", 10),
        )

    def keys(self) -> set[str]:
        return {key for key in self.redis.values if key.startswith("p:")}


@pytest.fixture
async def world() -> World:
    redis: Any = FakeRedis()
    scopes = Scopes(SharedSecret(redis, "other:"))
    every = [Scope("acme"), Scope("acme", "ann"), Scope("globex", "ann"), Scope("")]
    partitions = {scope: await scopes.partition(scope) for scope in every}
    secret = redis.values["other:gateway:secret"]
    world = World(redis, partitions, await fake_tenants().get("acme"))
    redis.values["other:gateway:secret"] = secret
    return world


async def test_without_force_data_is_only_counted(world: World) -> None:
    before = world.keys()
    expected = DeletedData(2, 1, 1, 2, 3)
    assert await world.service.delete_data("acme", None, force=False) == expected
    assert world.keys() == before
    assert world.entries.deleted == []
    assert len(world.collections.names) == 5


async def test_everything_of_a_tenant_is_deleted(world: World) -> None:
    deleted = await world.service.delete_data("acme", None, force=True)
    assert deleted == DeletedData(2, 1, 1, 2, 3)
    assert world.entries.deleted == [Scope("acme"), Scope("acme", "ann")]
    assert world.collections.names == {"documents-notes", "cache-digest-1", ".tune-x"}
    left = {world.entries.partitions[one] for one in (Scope("globex", "ann"), Scope(""))}
    assert world.keys() == {
        "p:gateway:document:{/notes}:a",
        *(f"p:gateway:stats:{partition}" for partition in left),
    }


async def test_the_default_tenant_owns_the_plain_names(world: World) -> None:
    deleted = await world.service.delete_data("", None, force=True)
    assert deleted == DeletedData(1, 1, 0, 1, 1)
    assert "documents-notes" not in world.collections.names
    assert len(world.collections.names) == 4


async def test_of_a_user_only_cache_data_is_deleted(world: World) -> None:
    before = world.keys()
    deleted = await world.service.delete_data("acme", "ann", force=True)
    assert deleted == DeletedData(1, 0, 0, 0, 1)
    assert world.entries.deleted == [Scope("acme", "ann")]
    gone = world.entries.partitions[Scope("acme", "ann")]
    assert before - world.keys() == {f"p:gateway:stats:{gone}"}


async def test_a_key_deletes_only_data_of_its_tenant(world: World) -> None:
    async def call() -> None:
        set_caller(Key("", "globex"))
        await world.service.delete_data("acme", None, force=True)

    with pytest.raises(PermissionDenied):
        await asyncio.create_task(call(), context=contextvars.Context())
    assert world.entries.deleted == []


async def test_what_was_asked_goes_with_the_tenant_or_the_user(world: World) -> None:
    names, log = ScopeNames(world.redis, "p:"), LookupLog(world.redis, "p:", 10)
    scopes = Scopes(SharedSecret(world.redis, "other:"))
    acme = await scopes.tenant_partition("acme")
    await names.add_tenants(["acme", "globex"])
    lookups = [LoggedLookup(time.time(), "miss", user, "", "?", "e") for user in ("ann", "bob")]
    await log.add({acme: lookups})
    await world.service.delete_data("acme", "ann", force=False)
    assert len(await log.read(acme)) == 2
    await world.service.delete_data("acme", "ann", force=True)
    assert [one.user for one in await log.read(acme)] == ["bob"]
    await world.service.delete_data("acme", None, force=True)
    assert await log.read(acme) == []
    assert await names.tenants() == ["globex"]
