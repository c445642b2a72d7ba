from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.errors import Unavailable
from services.gateway.admin.store import OwnedKeys
from services.gateway.tenants import Tenant
from tests.fakes.redis import FakeRedis

ACME = Tenant("0a" * 16)
PARTITION, OTHER = "1b" * 32, "2c" * 32
MINE = [
    f"document:{ACME.hash_tag('notes')}:a:b",
    f"document:{ACME.hash_tag('notes')}:c",
    f"twin-record:{ACME.hash_tag('fox')}",
    f"stats:{PARTITION}",
    f"request:{PARTITION}:once",
    f"history:{PARTITION}:77",
]
OTHERS = [
    "document:{/notes}:a",
    f"document:{{/notes}}:{ACME.hash_tag('notes')}",
    f"document:{Tenant('0b' * 16).hash_tag('notes')}:a",
    f"stats:{OTHER}",
    "entry:1",
    f"entries:{PARTITION}",
    f"worth:{PARTITION}",
]
TAG = ACME.hash_tag("").removesuffix("}")


@pytest.fixture
def redis() -> Any:
    redis = FakeRedis()
    redis.values = {f"p:gateway:{name}": b"" for name in (*MINE, *OTHERS)}
    redis.values["p:search:documents"] = b""
    return redis


async def test_the_keys_of_a_tenant_are_counted(redis: Any) -> None:
    counts = await OwnedKeys(redis, "p:").count(TAG, {PARTITION})
    kinds = {"document": 2, "twin-record": 1, "stats": 1, "request": 1, "history": 1}
    assert counts == kinds
    assert await OwnedKeys(redis, "p:").count("", {PARTITION}) == dict.fromkeys(
        ("stats", "request", "history"), 1
    )


async def test_the_keys_of_others_stay(redis: Any) -> None:
    await OwnedKeys(redis, "p:").delete(TAG, {PARTITION})
    others = {f"p:gateway:{name}" for name in OTHERS}
    assert redis.values.keys() == others | {"p:search:documents"}


async def test_the_scopes_with_statistics_purges_or_request_ids_are_listed(redis: Any) -> None:
    redis.values[f"p:gateway:counted:{OTHER}"] = {PARTITION: 1.0, "3d": 1.0}
    redis.values[f"p:gateway:audited:{OTHER}"] = {f"{PARTITION} 1-0": 1.0, "4e 1-0": 2.0}
    redis.values[f"p:gateway:requested:{OTHER}"] = {"5f:once: more": 1.0}
    assert sorted(await OwnedKeys(redis, "p:").scopes(OTHER)) == [PARTITION, "3d", "4e", "5f"]
    assert await OwnedKeys(redis, "p:").scopes(PARTITION) == []


async def test_an_outage_is_reported(redis: Any) -> None:
    redis.failure = RedisConnectionError()
    with pytest.raises(Unavailable):
        await OwnedKeys(redis, "p:").count(TAG, set())
