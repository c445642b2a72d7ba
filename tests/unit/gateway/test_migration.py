import logging
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.errors import Unavailable
from services.gateway import migration
from services.gateway.migration import Migration, new_name
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.tenants import DEFAULT_TENANT
from services.gateway.twins.store import TwinStore
from tests.fakes.redis import FakeRedis

OLD = {
    "document:notes:a:b": b"{}",
    "text:notes:a:b": b"text",
    "documents:notes": {"a:b": 0},
    "epoch:notes": b"7",
    "twin:fox": {"record": b'{"id":"fox"}', "picture": b"x"},
    "twins": {"fox": 0},
    "twin-collections:fox": {"c"},
    "entry:1": b"{}",
}


@pytest.fixture
def redis() -> Any:
    redis = FakeRedis()
    redis.values = {f"p:gateway:{name}": value for name, value in OLD.items()}
    return redis


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("document:notes:a:b", "document:{/notes}:a:b"),
        ("chunks:notes:{x}", "chunks:{/notes}:{x}"),
        ("calibration:notes", "calibration:{/notes}"),
        ("documents:twins", "documents:{/twins}"),
        ("twins", "twin-ids:{/}"),
        ("twin:{/fox}", "twin-record:{/{/fox}}"),
        ("twin-collections:fox", "twin-vectors:{/fox}"),
        ("document:{/notes}:a:b", None),
        ("twin-record:{/fox}", None),
        ("twin-ids:{/}", None),
        ("entry:documents:notes", None),
        ("secret", None),
    ],
)
def test_names(old: str, new: str | None) -> None:
    assert new_name(old) == new


async def test_stores_find_what_was_migrated(redis: Any) -> None:
    one = Migration(redis, "p:")
    with pytest.raises(Unavailable) as caught:
        one.check()
    assert caught.value.reason == "MIGRATION_RUNNING"
    assert await one.count() == {
        "document": 1,
        "text": 1,
        "documents": 1,
        "epoch": 1,
        "twin": 1,
        "twins": 1,
        "twin-collections": 1,
    }
    await one.run()
    one.check()
    store, notes = DocumentStore(redis, "p:"), DocumentCollection("notes")
    assert await store.get(notes, "a:b") == {"text": "text"}
    assert await store.epochs([notes]) == [7]
    assert await store.collections() == [notes]
    twins = TwinStore(redis, "p:")
    assert await twins.page(DEFAULT_TENANT, 9, "") == ([{"id": "fox"}], "")
    assert await twins.collections(DEFAULT_TENANT, "fox") == {"c"}
    assert redis.values["p:gateway:entry:1"] == b"{}"


async def test_it_runs_once(redis: Any) -> None:
    await Migration(redis, "p:").run()
    redis.values["p:gateway:epoch:later"] = b"1"
    await Migration(redis, "p:").run()
    assert "p:gateway:epoch:later" in redis.values


async def test_newer_keys_stay_and_so_do_the_old_ones(redis: Any, caplog: Any) -> None:
    redis.values["p:gateway:epoch:{/notes}"] = b"9"
    with caplog.at_level(logging.INFO):
        await Migration(redis, "p:").run()
    assert redis.values["p:gateway:epoch:{/notes}"] == b"9"
    assert redis.values["p:gateway:epoch:notes"] == b"7"
    assert [record.__dict__.get("not_renamed") for record in caplog.records] == [None, {"epoch": 1}]


async def test_an_outage_of_redis_delays_it(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "RETRY_SECONDS", 0.0)
    redis.failure = RedisConnectionError()
    one = Migration(redis, "p:")
    task = await one.start()
    assert not one.done.is_set()
    redis.failure = None
    await task
    one.check()
