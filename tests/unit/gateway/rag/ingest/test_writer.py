import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.errors import Overloaded, Unavailable
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Vectors
from services.gateway.rag.ingest.batched_backends import EMBED_BATCH, BatchedBackends
from services.gateway.rag.ingest.parsers import plain
from services.gateway.rag.ingest.preparation import PreparedDocument, prepare
from services.gateway.rag.ingest.store import FenceLost
from services.gateway.rag.ingest.types import Source
from services.gateway.rag.ingest.writer import DocumentWriter
from tests.fakes.backends import DIMENSIONS, FakeCollection, FakeEmbedder, fake_backends
from tests.fakes.documents import FakeDocumentStore
from tests.fakes.tenants import C

OTTER, HERON, LYNX = (
    " ".join(f"{animal}{number}" for number in range(60)) + "."
    for animal in ("otter", "heron", "lynx")
)


class World:
    """A writer on fakes."""

    def __init__(self) -> None:
        both, self.embedder, self.search = fake_backends()
        self.store = FakeDocumentStore()
        self.writer = DocumentWriter(self.store, both)
        self.backends = BatchedBackends(both, "caller")

    async def prepare(self, *paragraphs: str) -> PreparedDocument:
        content = "\n\n".join(paragraphs).encode()
        source = Source("c", "a", "", "text/plain", {}, content)
        return await prepare(source, "text/plain", "v1", plain.parse(content), self.backends)

    async def write(self, *paragraphs: str) -> int:
        written = await self.writer.write(await self.prepare(*paragraphs), self.backends)
        return written.embedded

    def found(self) -> set[str]:
        return set(self.search.documents("documents-c"))


class SlowEmbedder(FakeEmbedder):
    """Answers calls in order, each when a test releases it."""

    def __init__(self) -> None:
        super().__init__()
        self.called = asyncio.Event()
        self.waiting: deque[asyncio.Event] = deque()
        self.answers = 0

    async def embed_documents(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        self.waiting.append(may_answer := asyncio.Event())
        self.called.set()
        await may_answer.wait()
        return await super().embed_documents(texts, bulk=bulk)

    def answer_one(self) -> None:
        if self.waiting:
            self.waiting.popleft().set()
            self.answers += 1


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    yield one
    one.backends.close()


async def test_search_and_the_store_have_the_document(world: World) -> None:
    document = await world.prepare(OTTER, HERON)
    written = await world.writer.write(document, world.backends)
    assert written == (len(document.chunks), 0)
    assert written.embedded >= 2
    assert world.found() == document.chunks.keys() == world.store.chunk_ids[C, "a"]
    record, complete = await world.store.get_with_state(C, "a")
    assert record is not None
    assert (record["version"], complete) == (document.stored.version, True)


async def test_only_new_chunks_are_embedded_and_stale_ones_deleted(world: World) -> None:
    whole = await world.write(OTTER, HERON, LYNX)
    before = world.found()
    changed = await world.write(OTTER, HERON)
    assert 0 <= changed < whole
    after = await world.prepare(OTTER, HERON)
    assert world.found() == after.chunks.keys() != before
    world.embedder.embedded.clear()
    assert await world.write(OTTER, HERON) == 0
    assert world.embedder.embedded == []


async def test_chunks_that_search_has_lost_are_embedded_again(world: World) -> None:
    await world.write(OTTER, HERON)
    lost = min(world.found())
    await world.search.delete("documents-c", [lost])
    assert await world.write(OTTER, HERON) == 1
    assert lost in world.found()


async def test_a_lost_fence_leaves_the_document_to_the_other_writer(world: World) -> None:
    await world.write(OTTER)
    earlier = world.store.records[C, "a"]
    world.store.rivals = 1
    with pytest.raises(FenceLost):
        await world.write(HERON)
    assert world.store.records[C, "a"] == earlier
    assert (await world.store.get_with_state(C, "a"))[1] is False
    assert await world.write(HERON) == 0  # its chunks were already in search
    assert (await world.store.get_with_state(C, "a"))[1] is True


async def test_a_busy_embedder_is_tried_again(world: World) -> None:
    busy = Overloaded("BUSY", "It is busy.", retry_after=1e-6)
    world.embedder.failures = [busy, busy]
    assert await world.write(OTTER) > 0


async def test_another_model_in_the_middle_fails_the_write(world: World) -> None:
    document = await world.prepare(OTTER)
    world.embedder.model = FakeEmbedder("other digest").model
    with pytest.raises(Unavailable) as caught:
        await world.writer.write(document, world.backends)
    assert caught.value.reason == "MODEL_CHANGED"
    assert world.found() == set()


async def test_a_deleted_document_is_gone_everywhere(world: World) -> None:
    await world.write(OTTER, HERON)
    await world.writer.delete(C, "a")
    assert world.found() == set()
    assert await world.store.get(C, "a") is None
    world.store.records[C, "a"] = {}
    world.store.rivals = 1
    with pytest.raises(FenceLost):
        await world.writer.delete(C, "a")


async def test_vectors_of_another_model_are_not_reused(world: World) -> None:
    """The collection is replaced by its copy after its vectors have been read."""
    await world.write(OTTER)
    world.embedder.model = FakeEmbedder("later").model
    document = await world.prepare(OTTER)
    assert document.model_digest == "digest"  # the ingest has cached the model for a moment
    document = replace(document, model_digest="later")
    [chunk] = document.chunks
    stored, vectors = world.search.collections["documents-c"], world.search.vectors

    async def read_then_swap(collection: str, ids: Sequence[str]) -> Any:
        found = await vectors(collection, ids)
        stored.spec = replace(stored.spec, model_digest="later")
        return found

    world.search.vectors = read_then_swap  # type: ignore[method-assign]
    stored.documents[chunk] = replace(stored.documents[chunk], vector=-np.ones(DIMENSIONS, "f4"))
    written = await world.writer.write(document, world.backends)
    assert written.embedded == 1
    assert stored.documents[chunk].vector.min() >= 0


async def test_chunks_are_deleted_from_the_copy_too(world: World) -> None:
    await world.write(OTTER, HERON, LYNX)
    spec = world.search.collections["documents-c"].spec
    documents = dict(world.search.documents("documents-c"))
    world.search.collections["copy"] = FakeCollection(replace(spec, name="copy"), documents)
    world.store.copies[C] = "copy"
    await world.write(OTTER, HERON)
    assert world.search.documents("copy").keys() == world.found()
    await world.writer.delete(C, "a")
    assert world.search.documents("copy") == {}


async def test_a_small_document_passes_a_large_one_of_another_caller(world: World) -> None:
    paragraphs = (" ".join(f"w{n}x{word}" for word in range(40)) + "." for n in range(3_000))
    large = await world.prepare(*paragraphs)
    batches = len(large.chunks) / EMBED_BATCH
    small = await world.prepare(OTTER)
    small = replace(small, stored=replace(small.stored, id="b"))
    slow = SlowEmbedder()
    backends = Backends(slow, world.search)
    writer = DocumentWriter(world.store, backends)
    mine, other = BatchedBackends(backends, "large"), BatchedBackends(backends, "small")
    writing = asyncio.create_task(writer.write(large, mine))
    await slow.called.wait()
    passing = asyncio.create_task(writer.write(small, other))
    while not passing.done():
        slow.answer_one()
        await asyncio.sleep(0)
    assert slow.answers < batches / 2
    while not writing.done():
        slow.answer_one()
        await asyncio.sleep(0)
    assert (await writing).embedded == len(large.chunks)
    mine.close()
    other.close()
