import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.gateway.circuit_breaker import FAILURE_THRESHOLD
from services.gateway.coalescing import leases as leases_module
from services.gateway.coalescing.leases import STREAM_START, Batch, LeaseStore, Published
from tests.fakes.redis import FakeRedis
from tests.fakes.slots import SlotRedis

TAG = "{" + hashlib.sha256(b"name").hexdigest()[:32] + "}"
LEASE, STREAM = f"p:gateway:singleflight:{TAG}", f"p:gateway:singleflight-items:{TAG}"


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def leases(redis: FakeRedis) -> LeaseStore:
    client: Any = redis
    return LeaseStore(client, "p:", 2.5)


async def test_a_lease_has_a_token_of_its_own_and_a_time(
    redis: FakeRedis, leases: LeaseStore
) -> None:
    tokens = {await leases.acquire("name") for _ in range(3)}
    assert len(tokens) == 3
    for _, keys, (token, milliseconds) in redis.evals:
        assert keys == [LEASE, STREAM]
        assert token in tokens
        assert milliseconds == 2500


async def test_a_lease_that_another_holds_has_no_token(
    redis: FakeRedis, leases: LeaseStore
) -> None:
    redis.script = lambda keys, arguments: 0
    assert await leases.acquire("name") == ""
    assert not await leases.renew("name", "token")
    assert not await leases.publish("name", "token", 0, [])


async def test_every_change_carries_the_token(redis: FakeRedis, leases: LeaseStore) -> None:
    assert await leases.renew("name", "token")
    assert await leases.publish("name", "token", 7, [{"text": "ö"}])
    await leases.release("name", "token")
    assert all(arguments[0] == "token" for _, _, arguments in redis.evals)
    assert redis.evals[1][2][1] == 7
    assert json.loads(redis.evals[1][2][2]) == [{"text": "ö"}]


async def test_items_are_read_from_where_the_last_read_ended(
    redis: FakeRedis, leases: LeaseStore
) -> None:
    assert await leases.read("name", STREAM_START) == Published([], STREAM_START, "")
    redis.values[LEASE] = b"token"
    redis.values[STREAM] = [(b"1-0", {b"t": b"token", b"n": b"0", b"i": b'[{"n": 1}]'})]
    first = await leases.read("name", STREAM_START)
    assert first == Published([Batch("token", 0, [{"n": 1}])], "1-0", "token")
    assert await leases.read("name", first.position) == Published([], "1-0", "token")
    redis.values[STREAM].append((b"2-0", {b"t": b"token", b"n": b"1", b"i": b'[{"n": 2}]'}))
    later = await leases.read("name", first.position)
    assert later.batches == [Batch("token", 1, [{"n": 2}])]


async def test_a_broken_redis_is_not_asked_for_leases_for_a_while(
    redis: FakeRedis, leases: LeaseStore
) -> None:
    redis.failure = RedisConnectionError("closed")
    for _ in range(FAILURE_THRESHOLD):
        with pytest.raises(RedisConnectionError):
            await leases.acquire("name")
    redis.failure = None
    with pytest.raises(RedisConnectionError):
        await leases.acquire("name")
    assert not redis.evals


@pytest.mark.parametrize("call", ["acquire", "read"])
async def test_a_silent_redis_holds_up_neither_the_work_nor_its_followers(
    call: str, redis: FakeRedis, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.asynccontextmanager
    async def hang(*words: object, **options: object) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    async def hang_too(*words: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(redis, "eval", hang_too)
    monkeypatch.setattr(redis, "pipeline", hang)
    monkeypatch.setattr(leases_module, "TIMEOUT", 0.01)
    for _ in range(FAILURE_THRESHOLD):
        with pytest.raises(RedisConnectionError, match="does not answer"):
            await (leases.acquire("name") if call == "acquire" else leases.read("name", "-"))
    with pytest.raises(RedisConnectionError, match="circuit breaker"):
        await leases.acquire("name")


async def test_what_changes_together_is_in_one_slot() -> None:
    slots: Any = SlotRedis()
    store = LeaseStore(slots, "p:", 1.0)
    for name in ("a", "ask:b}:{c", "{"):
        token = await store.acquire(name)
        await store.publish(name, token, 0, [])
        await store.renew(name, token)
        await store.release(name, token)
    slots.check()
