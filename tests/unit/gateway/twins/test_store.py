from typing import Any

import pytest
from redis import exceptions

from services.errors import Overloaded, Unavailable
from services.gateway.redis_store import MAX_PAGE_BYTES
from services.gateway.twins.store import TwinStore
from tests.fakes.redis import FakeRedis


def store() -> tuple[TwinStore, FakeRedis]:
    redis: Any = FakeRedis()
    return TwinStore(redis, "test:"), redis


async def test_a_twin_is_read_as_it_was_written() -> None:
    twins, redis = store()
    await twins.put("a", {"title": "Ä"}, b"\x89PNG", ["c"])
    assert await twins.get("a") == {"title": "Ä"}
    assert await twins.picture("a") == b"\x89PNG"
    assert set(redis.values) == {
        "test:gateway:twin:a",
        "test:gateway:twins",
        "test:gateway:twin-collections:a",
    }
    assert await twins.get("b") is None
    assert await twins.picture("b") is None


async def test_several_are_read_in_the_order_of_their_ids() -> None:
    twins, _ = store()
    for key in "abc":
        await twins.put(key, {"id": key}, b"", ["c"])
    assert await twins.get_many(["c", "x", "a"]) == [{"id": "c"}, None, {"id": "a"}]


async def test_pages_come_in_the_order_of_the_ids() -> None:
    twins, _ = store()
    for key in "cab":
        await twins.put(key, {"id": key}, b"", ["c"])
    first, token = await twins.page(2, "")
    last, end = await twins.page(2, token)
    assert ([one["id"] for one in first], [one["id"] for one in last]) == (["a", "b"], ["c"])
    assert end == ""


async def test_a_deleted_twin_is_gone_and_not_listed() -> None:
    twins, redis = store()
    await twins.put("a", {}, b"x", ["c"])
    await twins.delete("a")
    assert await twins.get("a") is None
    assert await twins.page(9, "") == ([], "")
    assert redis.values == {"test:gateway:twins": {}}


async def test_errors_of_redis_are_failures() -> None:
    twins, redis = store()
    redis.failure = exceptions.ConnectionError()
    with pytest.raises(Unavailable):
        await twins.get("a")
    redis.failure = exceptions.OutOfMemoryError()
    with pytest.raises(Overloaded):
        await twins.put("a", {}, b"", ["c"])


async def test_collections_are_recorded_until_they_are_removed() -> None:
    twins, _ = store()
    assert await twins.collections("a") == set()
    await twins.put("a", {}, b"", ["c", "d"])
    await twins.put("a", {}, b"", ["d", "e"])
    assert await twins.collections("a") == {"c", "d", "e"}
    await twins.remove_collections("a", ["c", "d"])
    assert await twins.collections("a") == {"e"}


async def test_a_page_is_bounded_by_bytes() -> None:
    twins, _ = store()
    half = "x" * (MAX_PAGE_BYTES // 2)
    for key in "abc":
        await twins.put(key, {"id": key, "title": half if key != "c" else ""}, b"", ["c"])
    first, token = await twins.page(9, "")
    last, end = await twins.page(9, token)
    assert ([one["id"] for one in first], [one["id"] for one in last]) == (["a"], ["b", "c"])
    assert (token, end) == ("a", "")
