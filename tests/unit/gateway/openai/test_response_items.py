from typing import Any

import pytest
from redis.exceptions import ConnectionError as NotConnected

from services.errors import NotFound, Unavailable
from services.gateway.cache.types import Scope
from services.gateway.circuit_breaker import CircuitBreaker
from services.gateway.openai.response_items import MAX_ITEM_BYTES, ResponseItems
from services.gateway.openai.response_objects import message_item, object_id, text_part
from tests.fakes.cache_store import fake_scopes
from tests.fakes.redis import FakeRedis

SCOPE = Scope("acme", "ann")


def item(number: int = 0, text: str = "Yes.") -> dict[str, Any]:
    return message_item(object_id("msg", "a", number), [text_part(text)])


def reference(number: int = 0) -> dict[str, str]:
    return {"type": "item_reference", "id": object_id("msg", "a", number)}


def items_in(redis: FakeRedis) -> ResponseItems:
    client: Any = redis
    return ResponseItems(client, "p:", fake_scopes(redis), CircuitBreaker())


async def test_references_become_items() -> None:
    items = items_in(FakeRedis())
    await items.put(SCOPE, [item(number) for number in range(250)])
    question = {"role": "user", "content": "Hi?"}
    body = {"model": "m", "input": [question, *map(reference, range(250)), reference(3)]}
    resolved = await items.resolve(SCOPE, body)
    assert resolved == {"model": "m", "input": [question, *map(item, range(250)), item(3)]}


async def test_other_inputs_stay() -> None:
    items = items_in(FakeRedis())
    theirs = {"type": "item_reference", "id": "msg_68af4030baa48193b0b43b4c2a176a1a"}
    for given in (None, "Hi?", [], [theirs], ["Hi?"], [{"type": "item_reference", "id": 5}]):
        assert await items.resolve(SCOPE, {"input": given}) == {"input": given}


async def test_an_item_belongs_to_its_scope() -> None:
    redis = FakeRedis()
    await items_in(redis).put(SCOPE, [item()])
    for other in (Scope("acme"), Scope("umbrella", "ann"), Scope("acme", "ann", "faq")):
        with pytest.raises(NotFound) as caught:
            await items_in(redis).resolve(other, {"input": [reference()]})
        assert (caught.value.reason, caught.value.field) == ("ITEM_NOT_FOUND", "input")


async def test_an_item_expires() -> None:
    redis = FakeRedis()
    await items_in(redis).put(SCOPE, [item()])
    assert [*redis.expiries.values()] == [86_400]


async def test_a_large_item_is_not_stored() -> None:
    redis = FakeRedis()
    await items_in(redis).put(SCOPE, [item(text="x" * MAX_ITEM_BYTES)])
    assert not any("response_items" in key for key in redis.values)


async def test_without_redis_the_response_is_still_sent() -> None:
    redis = FakeRedis()
    redis.failure = NotConnected("no")
    items = items_in(redis)
    await items.put(SCOPE, [item()])
    with pytest.raises(Unavailable):
        await items.resolve(SCOPE, {"input": [reference()]})
