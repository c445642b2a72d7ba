"""Documents that change while their collection is re-embedded, with a real search and Redis."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services import grpc_channel, grpc_server
from services.errors import NotFound
from services.gateway import redis_store
from services.gateway.backends.backends import Backends
from services.gateway.backends.collections import CollectionClient
from services.gateway.backends.search import SearchClient
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import (
    DocumentCollection,
    Receipt,
    Source,
)
from services.gateway.reembedding.documents import DocumentReembedder
from services.search.__main__ import wire
from services.search.settings import Settings
from tests.fakes.backends import FakeEmbedder
from tests.fakes.parsers import FakeParserPool
from tests.fakes.tenants import fake_tenants

MODELS = [FakeEmbedder(letter * 64) for letter in "abc"]
DOCUMENTS = {f"note {number:02}": f"The number is {number}. " * 30 for number in range(60)}
NOTES = DocumentCollection("notes")
NAME = NOTES.search_name


class World:
    """The clients of a search service, and services of each model on the same data."""

    def __init__(self, channel: Any, redis: Any, prefix: str) -> None:
        self.search, self.collections = SearchClient(channel), CollectionClient(channel)
        self.store = DocumentStore(redis, prefix)

    def ingests(self, embedder: FakeEmbedder) -> IngestService:
        return IngestService(
            self.store, Backends(embedder, self.search), FakeParserPool(), fake_tenants()
        )

    async def reembed(self, embedder: FakeEmbedder) -> None:
        reembedder = DocumentReembedder(self.store, embedder, self.search, self.collections)
        await reembedder.run(embedder.model)
        assert await reembedder.count(embedder.model.digest) == 0

    async def check(self, digest: str) -> None:
        """Search has the chunks that the store lists, except for documents being changed."""
        info = await self.collections.describe(NAME)
        assert info
        assert info.model_digest == digest
        assert {one.name for one in await self.collections.list_all()} == {info.name}
        found: set[str] = set()
        token, more = "", True
        while more:
            documents, token = await self.collections.page(NAME, 1000, token)
            found |= {one.id for one in documents}
            more = bool(token)
        assert await self.store.unlisted(NOTES, sorted(found)) == set()
        records, _ = await self.store.page(NOTES, 1000, "")
        for record in records:
            _, is_complete = await self.store.get_with_state(NOTES, record["id"])
            chunks = [key for key in found if key.startswith(record["id"] + "#")]
            assert not is_complete or len(chunks) == record["chunks"], record["id"]


async def ingest(service: IngestService, documents: dict[str, str]) -> list[Receipt]:
    async def sources() -> AsyncIterator[Source]:
        for key, text in documents.items():
            yield Source("notes", key, "", "text/plain", {}, text.encode())

    return [receipt async for receipt in service.ingest(sources())]


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    own = f"{prefix}{uuid.uuid4()}:"
    async with contextlib.AsyncExitStack() as stack:
        specs = await stack.enter_async_context(
            wire(Settings(redis_url=redis_url, redis_prefix=own))
        )
        server = await stack.enter_async_context(grpc_server.Server(specs, "127.0.0.1:0"))
        channel = await stack.enter_async_context(grpc_channel.dial(f"127.0.0.1:{server.port}"))
        redis = redis_store.connect(redis_url)
        stack.push_async_callback(redis.aclose)
        yield World(channel, redis, own)


@pytest.mark.parametrize("seed", range(3))
async def test_no_document_is_lost_or_served_again(world: World, seed: int) -> None:
    generator, left = random.Random(seed), sorted(DOCUMENTS)
    await ingest(world.ingests(MODELS[0]), DOCUMENTS)
    await world.check(MODELS[0].model.digest)
    for model in MODELS[1:]:  # the second change replaces a copy
        service = world.ingests(model)
        work = asyncio.create_task(world.reembed(model))
        while not work.done() and len(left) > 10:
            if generator.random() < 0.7:
                key = left.pop(generator.randrange(len(left)))
                await service.delete("notes", key)
            else:  # refused until the copy has the collection's name
                await ingest(service, {generator.choice(left): f"It is {generator.random()}."})
        await work
        await world.check(model.model.digest)
        receipts = await ingest(service, {"new": "A new one.", left[0]: "A later version."})
        assert "failed" not in {one.status for one in receipts}
        await world.check(model.model.digest)


async def test_each_chunk_is_embedded_once(world: World) -> None:
    await ingest(world.ingests(MODELS[0]), DOCUMENTS)
    later = FakeEmbedder("later" * 10)
    await world.reembed(later)
    info = await world.collections.describe(NAME)
    assert info
    assert len(later.embedded) == info.documents
    # The copy does not differ from a source, so a resumed run embeds nothing again.
    documents, _ = await world.collections.page(NAME, 1000, "")
    assert await world.collections.outdated(info.name, documents) == set()


async def test_an_interrupted_swap_is_completed_by_an_ingest(world: World) -> None:
    await ingest(world.ingests(MODELS[0]), DOCUMENTS)
    copy = NOTES.copy_name(MODELS[1].model.digest)
    await world.reembed(MODELS[1])
    assert await world.search.field_types(copy)
    # As it is between the two steps: the collection is gone, and its copy has no other name yet.
    await world.collections.create_like(copy, "other", "d", 2)
    await world.search.assign_alias(NAME, "other")
    await world.collections.delete("other")
    with pytest.raises(NotFound):
        await world.collections.page(NAME, 1, "")
    [receipt] = await ingest(world.ingests(MODELS[1]), {"new": "A new one."})
    assert receipt.status == "created"
    await world.check(MODELS[1].model.digest)
    info = await world.collections.describe(NAME)
    assert info
    assert (info.name, info.documents > len(DOCUMENTS)) == (copy, True)
