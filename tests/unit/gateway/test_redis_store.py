import asyncio
import threading
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import RedisCluster

from services.errors import Failure, InvalidArgument, Overloaded, Unavailable
from services.gateway.redis_store import (
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_BYTES,
    MAX_PAGE_SIZE,
    as_bytes,
    dump,
    from_record,
    in_thread,
    is_ready,
    load,
    load_all,
    one_slot,
    page,
    redis_errors,
)
from tests.fakes.redis import FakeRedis


class SortedSet:
    """The only Redis command that pages need, over a list of members."""

    def __init__(self, members: list[str]) -> None:
        self._members = sorted(members)

    async def zrangebylex(
        self, key: str, low: str, high: str, *, start: int, num: int
    ) -> list[bytes]:
        found = [one for one in self._members if low == "-" or one > low.removeprefix("(")]
        return [one.encode() for one in found[start : start + num]]


async def pages(redis: Any, size: int) -> list[list[str]]:
    names, token = await page(redis, "key", size, "")
    found = [names]
    while token:
        names, token = await page(redis, "key", size, token)
        found.append(names)
    return found


async def test_pages_have_all_members_once() -> None:
    redis: Any = SortedSet(list("abcde"))
    assert await pages(redis, 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert await pages(redis, 5) == [list("abcde")]
    assert await pages(SortedSet([]), 5) == [[]]


async def test_the_values_of_a_page_are_bounded_by_bytes() -> None:
    redis: Any = FakeRedis()
    half = MAX_PAGE_BYTES // 2
    for name, size in {"a": half, "b": half, "c": 1, "d": 2 * MAX_PAGE_BYTES, "e": 1}.items():
        redis.values["value:" + name] = b"x" * size
        redis.values.setdefault("key", {})[name] = 0.0
    found, token = [], ""
    while True:
        names, token = await page(redis, "key", 100, token, lambda name: "value:" + name)
        found.append(names)
        if not token:
            break
    assert found == [["a", "b"], ["c"], ["d"], ["e"]]


async def test_the_size_of_a_page_has_a_default_and_a_limit() -> None:
    redis: Any = SortedSet([f"{number:04}" for number in range(MAX_PAGE_SIZE + 1)])
    assert len((await page(redis, "key", 0, ""))[0]) == DEFAULT_PAGE_SIZE
    assert len((await page(redis, "key", 10**9, ""))[0]) == MAX_PAGE_SIZE
    with pytest.raises(InvalidArgument, match="negative"):
        await page(redis, "key", -1, "")


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (exceptions.OutOfMemoryError, Overloaded, "REDIS_OUT_OF_MEMORY"),
        (exceptions.ConnectionError, Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.TimeoutError, Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.BusyLoadingError, Unavailable, "REDIS_UNAVAILABLE"),
        (exceptions.ResponseError, Failure, "REDIS_REFUSED"),
    ],
)
async def test_errors_of_redis_are_failures(
    error: type[Exception], kind: type[Failure], reason: str
) -> None:
    with pytest.raises(kind) as caught:
        async with redis_errors():
            raise error("secret")
    assert caught.value.reason == reason
    assert "secret" not in caught.value.message


async def test_readiness_is_a_ping() -> None:
    class Redis:
        async def ping(self) -> bool:
            raise exceptions.ConnectionError

    redis: Any = Redis()
    with pytest.raises(Unavailable):
        await is_ready(redis)


def test_records_are_json() -> None:
    record = {"name": "Zwölf", "n": 1}
    assert load(dump(record)) == record
    assert load(dump({"n": 2**70})) == {"n": 2**70}
    assert dump(record) == '{"name":"Zwölf","n":1}'.encode()
    assert load(None) is None
    assert load(b"") is None


def test_a_reply_is_bytes_or_empty() -> None:
    assert (as_bytes(b"a"), as_bytes(None)) == (b"a", b"")


async def test_other_tasks_run_while_many_records_are_read() -> None:
    value = dump({"text": "x" * 2**17})
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    records = await load_all([value, None, value, value])
    counting.cancel()
    assert [bool(record) for record in records] == [True, False, True, True]
    assert turns >= 3


@dataclass(frozen=True)
class Item:
    id: str
    size: int = 1


def test_fields_of_another_version_are_ignored() -> None:
    assert from_record(Item, asdict(Item("a", 2)) | {"colour": "red"}) == Item("a", 2)
    assert from_record(Item, {"id": "a"}) == Item("a")


async def test_large_values_are_converted_in_a_thread() -> None:
    def thread_of(_: bytes) -> int:
        return threading.get_ident()

    assert await in_thread(thread_of, b"", 100) == threading.get_ident()
    assert await in_thread(thread_of, b"", 2**20) != threading.get_ident()


def test_on_a_cluster_keys_that_change_together_have_a_hash_tag() -> None:
    cluster: Any = RedisCluster.__new__(RedisCluster)
    assert one_slot(cluster, "p:gateway:") == "p:gateway:{cache}:"
    assert one_slot(cluster, "{p}:gateway:") == "{p}:gateway:"
    assert one_slot(FakeRedis(), "p:gateway:") == "p:gateway:"
