import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.errors import Unavailable
from services.gateway.cache.scopes import SECRET_SECONDS, Scopes
from services.gateway.cache.types import Context, Request, Scope
from tests.fakes.redis import FakeRedis


def scopes(redis: FakeRedis) -> Scopes:
    return Scopes(redis, "p:")  # type: ignore[arg-type]


async def test_replicas_share_the_first_ones_secret() -> None:
    redis = FakeRedis()
    one, other = scopes(redis), scopes(redis)
    assert await one.partition(Scope("t")) == await other.partition(Scope("t"))
    assert len(redis.values["p:gateway:secret"]) == 32
    stranger = scopes(FakeRedis())
    assert await stranger.partition(Scope("t")) != await one.partition(Scope("t"))


async def test_the_secret_is_read_once() -> None:
    redis = FakeRedis()
    one = scopes(redis)
    partition = await one.partition(Scope("t"))
    redis.failure = RedisConnectionError()
    assert await one.partition(Scope("t")) == partition
    with pytest.raises(Unavailable):
        await scopes(redis).partition(Scope("t"))


async def test_replicas_agree_again_after_redis_has_lost_its_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis, now = FakeRedis(), 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    running, other = scopes(redis), scopes(redis)
    before = await running.partition(Scope("t"))
    await other.partition(Scope("t"))
    redis.values.clear()
    now += SECRET_SECONDS + 1
    assert await running.partition(Scope("t")) == before  # restores its secret
    redis.values.clear()
    created = await scopes(redis).partition(Scope("t"))  # a restarted replica comes first
    now += SECRET_SECONDS + 1
    assert await running.partition(Scope("t")) == await other.partition(Scope("t")) == created


async def test_an_outage_does_not_change_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    redis, now = FakeRedis(), 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one = scopes(redis)
    before = await one.partition(Scope("t"))
    redis.failure = RedisConnectionError()
    now += SECRET_SECONDS + 1
    assert await one.partition(Scope("t")) == before


async def test_every_part_of_a_scope_makes_another_partition() -> None:
    one = scopes(FakeRedis())
    parts = [
        Scope(),
        Scope("a"),
        Scope("", "a"),
        Scope("", "", "a"),
        Scope("a", "b"),
        Scope("ab"),
        Scope("a", "", "b"),
    ]
    partitions = {await one.partition(scope) for scope in parts}
    partitions.add(await one.tenant_partition("a"))
    assert len(partitions) == len(parts) + 1


async def test_an_entry_id_depends_on_scope_context_and_prompt() -> None:
    one = scopes(FakeRedis())
    base = Request(Scope("t"), Context(model="m"), "prompt")
    others = [
        Request(Scope("u"), base.context, base.prompt),
        Request(base.scope, Context(model="n"), base.prompt),
        Request(base.scope, base.context, "Prompt"),
    ]
    ids = {await one.entry_id(request) for request in (base, *others)}
    assert len(ids) == 4
    assert await one.entry_id(Request(Scope("t"), Context(model="m"), "prompt")) in ids
