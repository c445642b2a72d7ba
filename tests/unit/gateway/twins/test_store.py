from typing import Any

import pytest
from redis import exceptions

from services.errors import Overloaded, Unavailable
from services.gateway.redis_store import MAX_PAGE_BYTES
from services.gateway.tenants import DEFAULT_TENANT, Tenant
from services.gateway.twins.store import TwinStore
from tests.fakes.redis import FakeRedis
from tests.fakes.slots import TENANTS, SlotRedis

T = DEFAULT_TENANT


def store() -> tuple[TwinStore, FakeRedis]:
    redis: Any = FakeRedis()
    return TwinStore(redis, "test:"), redis


async def test_a_twin_is_read_as_it_was_written() -> None:
    twins, redis = store()
    await twins.put(T, {"id": "a", "title": "Ä"}, b"\x89PNG", ["c"])
    assert await twins.get(T, "a") == {"id": "a", "title": "Ä"}
    assert await twins.picture(T, "a") == b"\x89PNG"
    assert set(redis.values) == {
        "test:gateway:twin-record:{/a}",
        "test:gateway:twin-ids:{/}",
        "test:gateway:twin-vectors:{/a}",
    }
    assert await twins.get(T, "b") is None
    assert await twins.picture(T, "b") is None


async def test_several_are_read_in_the_order_of_their_ids() -> None:
    twins, _ = store()
    for key in "abc":
        await twins.put(T, {"id": key}, b"", ["c"])
    assert await twins.get_many(T, ["c", "x", "a"]) == [{"id": "c"}, None, {"id": "a"}]


async def test_pages_come_in_the_order_of_the_ids() -> None:
    twins, _ = store()
    for key in "cab":
        await twins.put(T, {"id": key}, b"", ["c"])
    first, token = await twins.page(T, 2, "")
    last, end = await twins.page(T, 2, token)
    assert ([one["id"] for one in first], [one["id"] for one in last]) == (["a", "b"], ["c"])
    assert end == ""


async def test_a_deleted_twin_is_gone_and_not_listed() -> None:
    twins, redis = store()
    await twins.put(T, {"id": "a"}, b"x", ["c"])
    await twins.delete(T, "a")
    assert await twins.get(T, "a") is None
    assert await twins.page(T, 9, "") == ([], "")
    assert redis.values == {"test:gateway:twin-ids:{/}": {}}


async def test_errors_of_redis_are_failures() -> None:
    twins, redis = store()
    redis.failure = exceptions.ConnectionError()
    with pytest.raises(Unavailable):
        await twins.get(T, "a")
    redis.failure = exceptions.OutOfMemoryError()
    with pytest.raises(Overloaded):
        await twins.put(T, {"id": "a"}, b"", ["c"])


async def test_collections_are_recorded_until_they_are_removed() -> None:
    twins, _ = store()
    assert await twins.collections(T, "a") == set()
    await twins.put(T, {"id": "a"}, b"", ["c", "d"])
    await twins.put(T, {"id": "a"}, b"", ["d", "e"])
    assert await twins.collections(T, "a") == {"c", "d", "e"}
    await twins.remove_collections(T, "a", ["c", "d"])
    assert await twins.collections(T, "a") == {"e"}


async def test_a_page_is_bounded_by_bytes() -> None:
    twins, _ = store()
    half = "x" * (MAX_PAGE_BYTES // 2)
    for key in "abc":
        await twins.put(T, {"id": key, "title": half if key != "c" else ""}, b"", ["c"])
    first, token = await twins.page(T, 9, "")
    last, end = await twins.page(T, 9, token)
    assert ([one["id"] for one in first], [one["id"] for one in last]) == (["a"], ["b", "c"])
    assert (token, end) == ("a", "")


@pytest.mark.parametrize("tenant", TENANTS)
async def test_what_changes_together_is_in_one_slot(tenant: Tenant) -> None:
    redis: Any = SlotRedis()
    twins = TwinStore(redis, "p:")
    for key in ("a", "}", "{b}", "a/b"):
        await twins.put(tenant, {"id": key}, b"", ["c"])
    redis.check()
