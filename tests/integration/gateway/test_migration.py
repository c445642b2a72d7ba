"""The data of an earlier version, as its code wrote it, after the migration."""

import asyncio
import functools
import json
import os
import subprocess
import sys
import uuid
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.errors import Failure
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Scope
from services.gateway.migration import Migration, new_name
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.rag.store import CalibrationStore
from services.gateway.shared_secret import SharedSecret
from services.gateway.tenants import DEFAULT_TENANT, Tenant
from services.gateway.twins.store import TwinStore
from tests import old_data
from tests.conftest import ROOT
from tests.service_process import ServiceProcess
from tests.stack import wait_until

OTHER = Tenant("0af9" * 8)


class World:
    """Redis with the old data, and the stores of this version."""

    def __init__(self, url: str, prefix: str) -> None:
        self.client: Any = Redis.from_url(url)
        self.redis: Any = AsyncRedis.from_url(url)
        self.prefix = prefix
        self.old = old_data.load(self.client, prefix)
        self.documents = DocumentStore(self.redis, prefix)
        self.calibrations = CalibrationStore(self.redis, prefix, self.documents)
        self.twins = TwinStore(self.redis, prefix)

    def check_keys(self) -> None:
        """Each key of the old data has its new name or keeps its own; there are no others."""
        expected = {
            "gateway:" + str(new_name(suffix) or suffix): row[:2]
            for suffix, row in (
                (name.encode("latin-1").decode().removeprefix("gateway:"), row)
                for name, row in self.old.items()
            )
        } | {"gateway:migrated": ["string", "1"]}
        found = {
            name.encode("latin-1").decode(): row[:2]
            for name, row in old_data.dump(self.client, self.prefix).items()
        }
        assert found == expected

    def settings(self, url: str) -> dict[str, str]:
        """Return the settings of a gateway on this data; its backends are away."""
        away = {"EMBEDDER_ADDRESS": "127.0.0.1:1", "SEARCH_ADDRESS": "127.0.0.1:1"}
        return {"REDIS_URL": url, "REDIS_PREFIX": self.prefix, **away}

    async def close(self) -> None:
        await self.redis.aclose()
        self.client.close()


@pytest.fixture
async def world(redis_url: str, prefix: str) -> Any:
    world = World(redis_url, f"{prefix}{uuid.uuid4()}:")
    yield world
    await world.close()


async def test_nothing_is_lost_and_all_belongs_to_the_default_tenant(world: World) -> None:
    await Migration(world.redis, world.prefix).run()
    world.check_keys()
    assert await world.documents.collections() == sorted(
        DocumentCollection(name) for name in old_data.DOCUMENTS
    )
    for name, keys in old_data.DOCUMENTS.items():
        collection = DocumentCollection(name)
        stored = sorted({*keys} - {"a#b"} | ({"old.md"} if name == "notes" else set()))
        records, _ = await world.documents.page(collection, 99, "")
        assert [record["id"] for record in records] == stored
        for key in stored:
            record = await world.documents.get(collection, key)
            assert record is not None
            old = key == "old.md"
            assert record["text"] == ("Its record has the text." if old else f"Text of {key}. ü")
            assert await world.documents.get(DocumentCollection(name, OTHER), key) is None
            if not old:
                assert await world.documents.unlisted(collection, [f"{key}#0"]) == set()
    notes = DocumentCollection("notes")
    assert await world.documents.epochs([notes]) == [16]
    assert await world.documents.get_with_state(notes, "unfinished") == (None, False)
    assert await world.documents.copy(notes) == "reembedded-0123456789ab-notes"
    [calibration] = await world.calibrations.get([notes], "digest")
    assert calibration == {"min_score": 0.5, "slope": 9.0, "middle": 0.4}


async def test_twins_keep_their_pictures(world: World) -> None:
    await Migration(world.redis, world.prefix).run()
    records, _ = await world.twins.page(DEFAULT_TENANT, 99, "")
    assert [record["id"] for record in records] == sorted(old_data.TWINS, key=str.encode)
    for key in old_data.TWINS:
        assert await world.twins.picture(DEFAULT_TENANT, key) == b"\x89PNG" + key.encode()
        recorded = await world.twins.collections(DEFAULT_TENANT, key)
        assert recorded == (set() if key == "a:b" else {"twins-model-ip", "twin-titles-m"})
        assert await world.twins.picture(OTHER, key) is None
    assert await world.twins.page(OTHER, 99, "") == ([], "")


async def test_it_continues_after_an_interruption_at_any_rename(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt renames one more key, then the connection breaks."""
    monkeypatch.setattr("services.gateway.migration._BATCH_SIZE", 1)
    total = sum((await Migration(world.redis, world.prefix).count()).values())
    pipeline = world.redis.pipeline
    for number in range(total):
        calls = iter([pipeline])

        def failing(calls: Any = calls, **options: Any) -> Any:
            try:
                return next(calls)(**options)
            except StopIteration:
                raise RedisConnectionError from None

        monkeypatch.setattr(world.redis, "pipeline", failing)
        one = Migration(world.redis, world.prefix)
        if number < total - 1:
            with pytest.raises(Failure):
                await one.run()
            assert not one.done.is_set()
        else:
            await one.run()
    world.check_keys()


async def test_replicas_migrate_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.migration._BATCH_SIZE", 3)
    replicas = [Migration(world.redis, world.prefix) for _ in range(4)]
    await asyncio.gather(*(one.run() for one in replicas))
    world.check_keys()


async def test_a_count_changes_nothing(world: World) -> None:
    counts = await Migration(world.redis, world.prefix).count()
    assert counts["twin"] == len(old_data.TWINS)
    found = old_data.dump(world.client, world.prefix)
    assert {name: row[:2] for name, row in found.items()} == {
        name: row[:2] for name, row in world.old.items()
    }
    assert json.loads(old_data.FILE.read_text()).keys() == found.keys()


async def test_the_cache_keeps_its_entries_and_their_scopes(world: World) -> None:
    await Migration(world.redis, world.prefix).run()
    scopes = Scopes(SharedSecret(world.redis, world.prefix))
    store = CacheStore(world.redis, world.prefix)
    for tenant in (*old_data.TENANTS, "globex"):
        for user in ("", "ann"):
            partition = await scopes.partition(Scope(tenant, user, "n"))
            records, _ = await store.page(partition, 9, "")
            is_gone = tenant == "globex" or (tenant, user) == ("acme", "ann")
            expected = [] if is_gone else [f"{tenant} {user}"]
            assert [record["response"] for record in records] == expected
            assert await store.claim_request_id(
                await scopes.owner(Scope(tenant, user, "n")), "request", "new"
            ) == ("new" if tenant == "globex" else f"id of {tenant}/{user}")
    await store.close()


async def test_a_dry_run_of_the_gateway_changes_nothing(world: World, redis_url: str) -> None:
    settings = world.settings(redis_url) | {"MIGRATION_DRY_RUN": "true"}
    environment = os.environ | {f"MEMETWIN_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "services.gateway"]
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=120)
    done = await asyncio.to_thread(run, command, env=environment, cwd=ROOT)
    assert done.returncode == 0
    assert '"twin": 6' in done.stdout + done.stderr
    found = old_data.dump(world.client, world.prefix)
    assert {name: row[:2] for name, row in found.items()} == {
        name: row[:2] for name, row in world.old.items()
    }


async def test_gateways_that_start_together_migrate(world: World, redis_url: str) -> None:
    gateways = [ServiceProcess("gateway", **world.settings(redis_url)) for _ in range(2)]
    try:
        wait_until(lambda: world.client.exists(f"{world.prefix}gateway:migrated"))
    finally:
        for gateway in gateways:
            gateway.close()
    found = old_data.dump(world.client, world.prefix)
    for name, row in world.old.items():
        suffix = name.encode("latin-1").decode().removeprefix("gateway:")
        new = "gateway:" + str(new_name(suffix) or suffix)
        assert found[new.encode().decode("latin-1")][:2] == row[:2]
    assert not any(
        new_name(name.encode("latin-1").decode().removeprefix("gateway:")) for name in found
    )
