from typing import Any

import pytest
from redis import exceptions

from services.errors import Unavailable
from services.gateway.rag.ingest.store import DocumentStore, FenceLost, FencingLease
from services.gateway.redis_store import dump
from tests.fakes.redis import FakeRedis

KEYS = [
    "test:gateway:chunks:c:a",
    "test:gateway:epoch:c",
    "test:gateway:turns:c",
    "test:gateway:document:c:a",
    "test:gateway:documents:c",
    "test:gateway:text:c:a",
]
LEASE = FencingLease("c", "a", 7, frozenset())


def store() -> tuple[DocumentStore, FakeRedis]:
    redis: Any = FakeRedis()
    return DocumentStore(redis, "test:"), redis


async def test_epochs_count_changes() -> None:
    documents, redis = store()
    pipe: Any = redis.pipeline(transaction=True)
    documents.advance_epoch(pipe, "c")
    documents.advance_epoch(pipe, "c")
    assert await documents.epochs(["c"]) == [0]
    await pipe.execute()
    assert await documents.epochs(["c", "never changed"]) == [2, 0]


async def test_a_document_is_read_with_its_state() -> None:
    documents, redis = store()
    assert await documents.get_with_state("c", "a") == (None, True)
    redis.values[KEYS[3]] = dump({"id": "a"})
    assert await documents.get("c", "a") == {"id": "a"}
    assert await documents.get_with_state("c", "a") == ({"id": "a"}, True)
    redis.values[KEYS[2]] = {"a": b"7"}
    assert await documents.get_with_state("c", "a") == ({"id": "a"}, False)


async def test_a_text_is_read_from_its_key_or_from_an_earlier_record() -> None:
    documents, redis = store()
    redis.values[KEYS[3]] = dump({"id": "a", "text": "earlier"})
    assert await documents.get("c", "a") == {"id": "a", "text": "earlier"}
    redis.values[KEYS[3]] = dump({"id": "a"})
    redis.values[KEYS[5]] = "é".encode()
    assert await documents.get("c", "a") == {"id": "a", "text": "é"}
    assert await documents.get_with_state("c", "a") == ({"id": "a"}, True)


async def test_pages_come_in_the_order_of_the_ids() -> None:
    documents, redis = store()
    assert await documents.page("c", 2, "") == ([], "")
    for key in "bca":
        redis.values[f"test:gateway:document:c:{key}"] = dump({"id": key})
        await redis.zadd(KEYS[4], {key: 0})
    first, token = await documents.page("c", 2, "")
    last, end = await documents.page("c", 2, token)
    assert ([one["id"] for one in first], [one["id"] for one in last]) == (["a", "b"], ["c"])
    assert end == ""


async def test_a_lease_has_its_fence_and_the_earlier_chunks() -> None:
    documents, redis = store()
    redis.script = lambda keys, arguments: [[b"a#1", b"a#2"], 7]
    lease = await documents.acquire("c", "a", ["a#2", "a#3"])
    assert lease == FencingLease("c", "a", 7, frozenset({"a#1", "a#2"}))
    assert redis.evals[0][1:] == (KEYS, ["a", dump(["a#2", "a#3"])])


async def test_chunks_are_those_of_a_lease_that_holds() -> None:
    documents, redis = store()
    redis.values[KEYS[0]] = ["a#1", "a#2"]
    redis.values[KEYS[2]] = {"a": b"7"}
    assert await documents.chunks(LEASE) == {"a#1", "a#2"}
    redis.values[KEYS[2]] = {"a": b"8"}
    with pytest.raises(FenceLost):
        await documents.chunks(LEASE)
    del redis.values[KEYS[2]]
    with pytest.raises(FenceLost):
        await documents.chunks(LEASE)


async def test_writes_carry_the_fence() -> None:
    documents, redis = store()
    await documents.put(LEASE, {"id": "a", "text": "é"}, ["a#1"])
    await documents.delete(LEASE)
    assert [one[1:] for one in redis.evals] == [
        (KEYS, ["a", 7, dump({"id": "a"}), "é".encode(), dump(["a#1"])]),
        (KEYS, ["a", 7]),
    ]


async def test_a_lost_fence_is_a_failure_to_try_again() -> None:
    documents, redis = store()
    redis.script = lambda keys, arguments: 0
    for call in (documents.put(LEASE, {"text": ""}, []), documents.delete(LEASE)):
        with pytest.raises(FenceLost) as caught:
            await call
        assert caught.value.reason == "DOCUMENT_CHANGED"
        assert 0.05 <= (caught.value.retry_after or 0) <= 0.5


async def test_an_unreachable_redis_is_a_failure() -> None:
    documents, redis = store()
    redis.failure = exceptions.ConnectionError()
    for call in (documents.get("c", "a"), documents.acquire("c", "a", [])):
        with pytest.raises(Unavailable):
            await call


async def test_chunks_that_no_document_has_are_unlisted() -> None:
    documents, redis = store()
    await redis.sadd("test:gateway:chunks:c:a#b", "a#b#1", "a#b#2")
    chunks = ["a#b#1", "a#b#3", "gone#1"]
    assert await documents.unlisted("c", chunks) == {"a#b#3", "gone#1"}
    assert await documents.unlisted("c", []) == set()


async def test_the_copy_of_a_collection_is_known_until_it_ends() -> None:
    documents, _ = store()
    assert await documents.copy("c") == ""
    await documents.set_copy("c", "copy")
    assert await documents.copy("c") == "copy"
    await documents.set_copy("c", "")
    assert await documents.copy("c") == ""


async def test_leases_are_revoked_by_a_script() -> None:
    documents, redis = store()
    await documents.revoke_leases("c")
    [(_, keys, _)] = redis.evals
    assert keys == KEYS[1:3]
