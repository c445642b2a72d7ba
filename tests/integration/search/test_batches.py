"""Batches that take more than one script, on a real Redis."""

import asyncio
import time
import uuid
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from services.errors import Overloaded, Unavailable
from services.search.engines import batches
from services.search.engines.connection import connect
from services.search.service import SearchService
from services.search.types import Document
from tests.fakes.search import collection
from tests.refusals import refused
from tests.search_client import Stub, create, describe, upsert

COUNT = 50


def rows(generator: Any, count: int = COUNT) -> list[Document]:
    vectors = generator.standard_normal((count, 4)).astype("<f4")
    return [
        Document(f"d{at:03}", row, text=f"cats {at}", payload=b"\0", ttl=60.0 * (at % 2))
        for at, row in enumerate(vectors)
    ]


@pytest.fixture
async def service(redis_url: str) -> Any:
    redis = connect(redis_url)
    yield SearchService(redis, f"{uuid.uuid4()}:")
    await redis.aclose()


def test_a_large_batch_is_written_as_a_whole(stub: Stub) -> None:
    name = create(stub)
    generator = np.random.default_rng(0)
    reply = upsert(stub, name, generator.standard_normal((COUNT, 4)))
    assert (reply.created, reply.updated) == (COUNT, 0)
    reply = upsert(stub, name, generator.standard_normal((COUNT, 4)), first=10)
    assert (reply.created, reply.updated) == (10, COUNT - 10)
    assert describe(stub, name).document_count == COUNT + 10
    documents = [
        search_pb2.Document(id=f"x{at}", vector=np.full(4, 1 if at < 20 else 0, "<f4").tobytes())
        for at in range(21)
    ]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "ZERO_VECTOR"):
        stub.UpsertDocuments(
            search_pb2.UpsertDocumentsRequest(collection=name, documents=documents)
        )
    assert describe(stub, name).document_count == COUNT + 10


async def test_an_interrupted_batch_is_finished_once(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = (await service.create(collection(dimensions=4, engine="vector_sets"))).collection
    engine: Any = service._engine_of(created)
    write, calls = engine.write_documents, 0

    async def fail_later(*arguments: Any) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise Unavailable("REDIS_UNAVAILABLE", "Redis is unreachable.")
        return await write(*arguments)  # type: ignore[no-any-return]

    documents = rows(np.random.default_rng(1))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "write_documents", fail_later)
        with pytest.raises(Unavailable):
            await service.upsert(created, documents)
    assert await _count(service) == 3 * batches.MAX_SCRIPT_DOCUMENTS
    newer = Document(documents[-1].id, documents[0].vector, text="newer")
    await service.upsert(created, [newer])
    await service.delete("c", [documents[-2].id])
    monkeypatch.setattr(batches, "ABANDONED_SECONDS", -1.0)
    await asyncio.gather(*(engine.maintain("c") for _ in range(3)))
    assert await _count(service) == COUNT - 1
    [last] = await service.get("c", [newer.id])
    assert last is not None
    assert last.text == "newer"
    keys = [key async for key in service._redis.scan_iter(match=f"{service._catalog._prefix}*")]
    parts = (b":staged:", b":batch:", b":batches", b":pending")
    assert not [key for key in keys if any(part in key for part in parts)]


async def test_a_pending_version_is_written_although_the_old_one_has_expired(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = (await service.create(collection(dimensions=4, engine="vector_sets"))).collection
    engine: Any = service._engine_of(created)
    old = [replace(one, ttl=60.0) for one in rows(np.random.default_rng(3))]
    await service.upsert(created, old)

    async def fail(*arguments: Any) -> list[bool]:
        raise Unavailable("REDIS_UNAVAILABLE", "Redis is unreachable.")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "write_documents", fail)
        with pytest.raises(Unavailable):
            await service.upsert(created, [replace(one, text="new", ttl=0.0) for one in old])
    later = round(1000 * (time.time() + 61))
    monkeypatch.setattr("services.search.engines.documents._now_ms", lambda: later)
    monkeypatch.setattr(batches, "ABANDONED_SECONDS", -1.0)
    await engine.maintain("c")
    assert await _count(service) == COUNT
    found = await service.get("c", [one.id for one in old])
    assert all(one is not None and one.text == "new" for one in found)


async def test_a_batch_fails_as_a_whole_if_redis_is_out_of_memory(service: SearchService) -> None:
    created = (await service.create(collection(dimensions=4))).collection
    limit = (await service._redis.config_get("maxmemory"))["maxmemory"]
    await service._redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(Overloaded):
            await service.upsert(created, rows(np.random.default_rng(2)))
    finally:
        await service._redis.config_set("maxmemory", limit)
    assert await _count(service) == 0


async def _count(service: SearchService) -> int:
    return (await service.describe("c")).count
