"""The leases on documents on a real Redis."""

import uuid

import pytest

from services.gateway import redis_store
from services.gateway.rag.ingest.store import DocumentStore, FenceLost
from tests.fakes.tenants import C

CHUNKS = ["a#1", "a#2"]


async def test_writers_start_again_when_their_leases_are_revoked(
    redis_url: str, prefix: str
) -> None:
    redis = redis_store.connect(redis_url)
    store = DocumentStore(redis, f"{prefix}leases-{uuid.uuid4()}:")
    record = {"id": "a", "text": "text"}
    lease = await store.acquire(C, "a", CHUNKS)
    await store.put(lease, record, CHUNKS)
    lease = await store.acquire(C, "a", [])
    await store.revoke_leases(C)
    for change in (store.delete(lease), store.put(lease, record, []), store.chunks(lease)):
        with pytest.raises(FenceLost):
            await change
    assert await store.get_with_state(C, "a") == ({"id": "a"}, False)
    assert await store.unlisted(C, [*CHUNKS, "a#3"]) == {"a#3"}
    await store.delete(await store.acquire(C, "a", []))
    assert await store.unlisted(C, CHUNKS) == {*CHUNKS}
    await store.revoke_leases(C)  # there is none
    assert await store.get_with_state(C, "a") == (None, True)
    await redis.aclose()
