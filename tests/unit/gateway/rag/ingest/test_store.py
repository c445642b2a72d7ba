from typing import Any

import pytest
from redis import exceptions

from services.errors import Unavailable
from services.gateway.rag.ingest.store import DocumentStore, FenceLost, FencingLease
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.redis_store import dump
from services.gateway.tenants import Tenant
from tests.fakes.redis import FakeRedis
from tests.fakes.slots import TENANTS, SlotRedis
from tests.fakes.tenants import C

KEYS = [
    "test:gateway:chunks:{/c}:a",
    "test:gateway:epoch:{/c}",
    "test:gateway:turns:{/c}",
    "test:gateway:document:{/c}:a",
    "test:gateway:documents:{/c}",
    "test:gateway:text:{/c}:a",
]
LEASE = FencingLease(C, "a", 7, frozenset())


def store() -> tuple[DocumentStore, FakeRedis]:
    redis: Any = FakeRedis()
    return DocumentStore(redis, "test:"), redis


async def test_epochs_count_changes() -> None:
    documents, redis = store()
    pipe: Any = redis.pipeline(transaction=True)
    documents.advance_epoch(pipe, C)
    documents.advance_epoch(pipe, C)
    assert await documents.epochs([C]) == [0]
    await pipe.execute()
    assert await documents.epochs([C, DocumentCollection("never changed")]) == [2, 0]


async def test_a_document_is_read_with_its_state() -> None:
    documents, redis = store()
    assert await documents.get_with_state(C, "a") == (None, True)
    redis.values[KEYS[3]] = dump({"id": "a"})
    assert await documents.get(C, "a") == {"id": "a"}
    assert await documents.get_with_state(C, "a") == ({"id": "a"}, True)
    redis.values[KEYS[2]] = {"a": b"7"}
    assert await documents.get_with_state(C, "a") == ({"id": "a"}, False)


async def test_a_text_is_read_from_its_key_or_from_an_earlier_record() -> None:
    documents, redis = store()
    redis.values[KEYS[3]] = dump({"id": "a", "text": "earlier"})
    assert await documents.get(C, "a") == {"id": "a", "text": "earlier"}
    redis.values[KEYS[3]] = dump({"id": "a"})
    redis.values[KEYS[5]] = "é".encode()
    assert await documents.get(C, "a") == {"id": "a", "text": "é"}
    assert await documents.get_with_state(C, "a") == ({"id": "a"}, True)


async def test_pages_come_in_the_order_of_the_ids() -> None:
    documents, redis = store()
    assert await documents.page(C, 2, "") == ([], "")
    for key in "bca":
        redis.values[f"test:gateway:document:{{/c}}:{key}"] = dump({"id": key})
        await redis.zadd(KEYS[4], {key: 0})
    first, token = await documents.page(C, 2, "")
    last, end = await documents.page(C, 2, token)
    assert ([one["id"] for one in first], [one["id"] for one in last]) == (["a", "b"], ["c"])
    assert end == ""


async def test_a_lease_has_its_fence_and_the_earlier_chunks() -> None:
    documents, redis = store()
    redis.script = lambda keys, arguments: [[b"a#1", b"a#2"], 7]
    lease = await documents.acquire(C, "a", ["a#2", "a#3"])
    assert lease == FencingLease(C, "a", 7, frozenset({"a#1", "a#2"}))
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
    for call in (documents.get(C, "a"), documents.acquire(C, "a", [])):
        with pytest.raises(Unavailable):
            await call


async def test_chunks_that_no_document_has_are_unlisted() -> None:
    documents, redis = store()
    await redis.sadd("test:gateway:chunks:{/c}:a#b", "a#b#1", "a#b#2")
    chunks = ["a#b#1", "a#b#3", "gone#1"]
    assert await documents.unlisted(C, chunks) == {"a#b#3", "gone#1"}
    assert await documents.unlisted(C, []) == set()


async def test_the_copy_of_a_collection_is_known_until_it_ends() -> None:
    documents, _ = store()
    assert await documents.copy(C) == ""
    await documents.set_copy(C, "copy")
    assert await documents.copy(C) == "copy"
    await documents.set_copy(C, "")
    assert await documents.copy(C) == ""


async def test_leases_are_revoked_by_a_script() -> None:
    documents, redis = store()
    await documents.revoke_leases(C)
    [(_, keys, _)] = redis.evals
    assert keys == KEYS[1:3]


@pytest.mark.parametrize("tenant", TENANTS)
async def test_what_changes_together_is_in_one_slot(tenant: Tenant) -> None:
    redis: Any = SlotRedis()
    store, collection = DocumentStore(redis, "p:"), DocumentCollection("c", tenant)
    for key in ("a", "}", "{b}", "a:b#c"):
        lease = await store.acquire(collection, key, ["x"])
        await store.put(lease, {"id": key, "text": "x"}, ["x"])
        await store.delete(lease)
        await store.get_with_state(collection, key)
    await store.revoke_leases(collection)
    redis.check()
