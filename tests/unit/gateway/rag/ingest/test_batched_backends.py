import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from services.errors import NotFound
from services.gateway.backends.types import CollectionSpec, Document, TextModel, Value
from services.gateway.rag.ingest.batched_backends import MAX_FIELDS, BatchedBackends
from services.gateway.rag.ingest.types import DOCUMENT_FIELD
from tests.fakes.backends import (
    DIMENSIONS,
    FakeCollection,
    FakeEmbedder,
    FakeSearch,
    fake_backends,
)
from tests.fakes.tenants import C

MODEL = TextModel("digest", DIMENSIONS, 64)
YEAR: dict[str, Value] = {"year": 2000.0}


class World:
    """Batched backends on fakes."""

    def __init__(self) -> None:
        both, self.embedder, self.search = fake_backends()
        self.backends = BatchedBackends(both, "caller")


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    yield one
    one.backends.close()


async def test_a_collection_is_created_for_the_model_with_its_fields(world: World) -> None:
    declared = await world.backends.ensure_fields(C, MODEL, YEAR)
    assert declared == {"year": "number", DOCUMENT_FIELD: "tag"}
    spec = world.search.collections["documents-c"].spec
    assert (spec.dimensions, spec.model_digest, spec.index_text) == (DIMENSIONS, "digest", True)


def add_copy(world: World, digest: str = "digest") -> str:
    name = C.copy_name(digest)
    spec = CollectionSpec(name, DIMENSIONS, digest, {DOCUMENT_FIELD: "tag"})
    row = np.zeros(DIMENSIONS, np.float32)
    world.search.collections[name] = FakeCollection(spec, {"copied": Document("copied", row)})
    return name


async def test_a_copy_gets_the_name_of_a_collection_that_was_deleted(world: World) -> None:
    """A re-embedding has deleted the collection, and has not renamed its copy yet."""
    copy = add_copy(world)
    declared = await world.backends.ensure_fields(C, MODEL, {})
    assert declared == {DOCUMENT_FIELD: "tag"}
    await world.backends.upsert(C, [Document("new", np.zeros(DIMENSIONS, np.float32))], "digest")
    assert world.search.collections.keys() == {copy}
    assert world.search.documents("documents-c").keys() == {"copied", "new"}


async def test_a_copy_of_another_model_gets_no_name(world: World) -> None:
    copy = add_copy(world, "another")
    await world.backends.ensure_fields(C, MODEL, {})
    assert world.search.collections.keys() == {copy, "documents-c"}


async def test_a_collection_that_is_replaced_between_two_batches(world: World) -> None:
    await world.backends.ensure_fields(C, MODEL, {})
    copy = add_copy(world)
    del world.search.collections["documents-c"]
    await world.backends.upsert(C, [Document("new", np.zeros(DIMENSIONS, np.float32))], "digest")
    assert world.search.documents(copy).keys() == {"copied", "new"}
    del world.search.collections[copy]
    with pytest.raises(NotFound):
        await world.backends.upsert(C, [Document("a", np.zeros(DIMENSIONS, "f4"))], "digest")


async def test_fields_that_come_later_are_added(world: World) -> None:
    await world.backends.ensure_fields(C, MODEL, YEAR)
    fields: list[dict[str, Value]] = [{"tags": ["a"]}, {"tags": ["b"]}, {"year": 1.0}]
    results = await asyncio.gather(*(world.backends.ensure_fields(C, MODEL, one) for one in fields))
    assert all(one["tags"] == "tag" for one in results[:2])
    assert world.search.collections["documents-c"].spec.fields.keys() == {
        "year",
        "tags",
        DOCUMENT_FIELD,
    }


async def test_a_field_keeps_its_first_type(world: World) -> None:
    await world.backends.ensure_fields(C, MODEL, YEAR)
    assert (await world.backends.ensure_fields(C, MODEL, {"year": "soon"}))["year"] == "number"


async def test_fields_are_limited(world: World) -> None:
    many: dict[str, Value] = {f"field{number}": 1.0 for number in range(MAX_FIELDS)}
    assert await world.backends.ensure_fields(C, MODEL, many) == {DOCUMENT_FIELD: "tag"}
    few = dict(list(many.items())[: MAX_FIELDS - 1])
    assert len(await world.backends.ensure_fields(C, MODEL, few)) == MAX_FIELDS
    assert len(await world.backends.ensure_fields(C, MODEL, YEAR)) == MAX_FIELDS


async def test_texts_are_embedded_with_the_digest_of_their_model(world: World) -> None:
    requests = (world.backends.embed(["a b", "c"]), world.backends.embed(["d"]))
    (first, second), (third,) = await asyncio.gather(*requests)
    for embedded, text in ((first, "a b"), (second, "c"), (third, "d")):
        expected = (await world.embedder.embed_documents([text])).rows[0]
        assert (embedded.digest, embedded.readable) == ("digest", True)
        assert np.array_equal(embedded.row, expected)


async def test_documents_of_concurrent_writers_share_batches(world: World) -> None:
    await world.backends.ensure_fields(C, MODEL, {})
    row = np.zeros(DIMENSIONS, np.float32)
    documents = [Document(str(number), row) for number in range(40)]
    writes = [world.backends.upsert(C, [one], "digest") for one in documents[:20]]
    await asyncio.gather(*writes, world.backends.upsert(C, documents[20:], "digest"))
    assert len(world.search.documents("documents-c")) == 40
    assert max(map(len, world.search.upserts)) <= 16
    assert len(world.search.upserts) < 10


class CountingEmbedder(FakeEmbedder):
    """Counts the requests for its model."""

    calls = 0

    async def text_model(self) -> TextModel:
        self.calls += 1
        return await super().text_model()


async def test_many_documents_request_the_model_once() -> None:
    both, _, search = fake_backends()
    assert isinstance(search, FakeSearch)
    embedder = CountingEmbedder()
    backends = BatchedBackends(type(both)(embedder, search), "caller")
    assert await asyncio.gather(*(backends.text_model() for _ in range(9))) == [MODEL] * 9
    assert embedder.calls == 1
    assert await backends.token_starts(["a b"]) == [[0, 2]]
    backends.close()


@pytest.mark.parametrize(
    ("reads", "most", "expected"),
    [(8192, 512, 512), (8192, 8192, 8192), (256, 512, 256), (8, 9, 32)],
)
async def test_chunks_have_as_many_tokens_as_the_model_reads_up_to_the_maximum(
    reads: int, most: int, expected: int
) -> None:
    both, _, search = fake_backends()
    backends = type(both)(FakeEmbedder(max_tokens=reads), search)
    assert await BatchedBackends(backends, "caller", most).chunk_tokens() == expected
