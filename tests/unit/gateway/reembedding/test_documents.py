import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from services.errors import AlreadyExists, Unavailable
from services.gateway.backends.collections import CollectionInfo, CopiedDocument
from services.gateway.backends.types import TextModel, Vectors
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.reembedding import types
from services.gateway.reembedding.documents import DocumentReembedder

OLD, NEW = TextModel("old" * 8, 2, 256), TextModel("new" * 8, 2, 256)
NOTES = DocumentCollection("notes")
NAME, COPY = "documents-notes", NOTES.copy_name(NEW.digest)


@dataclass
class FakeCollections:
    """Collections and aliases in memory; ``fail`` names the operation that fails once."""

    documents: dict[str, dict[str, CopiedDocument]]
    models: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    fail: str = ""
    before_page: Callable[[str], None] = lambda name: None
    after_delete: Callable[[str], None] = lambda name: None

    def _step(self, name: str) -> None:
        if self.fail == name:
            self.fail = ""
            raise Unavailable("SEARCH_UNAVAILABLE", "Search is unreachable.")

    async def describe(self, name: str) -> CollectionInfo | None:
        real = self.aliases.get(name, name)
        if real not in self.documents:
            return None
        return CollectionInfo(real, self.models[real], len(self.documents[real]))

    async def list_all(self) -> list[CollectionInfo]:
        found = [await self.describe(name) for name in self.documents]
        return [
            replace(one, aliases=tuple(a for a, real in self.aliases.items() if real == one.name))
            for one in found
            if one
        ]

    def of(self, name: str) -> dict[str, CopiedDocument]:
        return self.documents[self.aliases.get(name, name)]

    async def create_like(self, source: str, name: str, digest: str, dimensions: int) -> None:
        assert source in self.documents or source in self.aliases
        assert dimensions == NEW.dimensions
        self.documents.setdefault(name, {})
        self.models.setdefault(name, digest)

    async def page(self, name: str, size: int, token: str) -> tuple[list[CopiedDocument], str]:
        self.before_page(name)
        keys = sorted(key for key in self.of(name) if key > token)
        more = keys[size - 1] if len(keys) > size else ""
        return [self.of(name)[key] for key in keys[:size]], more

    async def outdated(self, name: str, documents: list[CopiedDocument]) -> set[str]:
        return {one.id for one in documents if self.of(name).get(one.id) != one}

    async def write(
        self, name: str, documents: list[CopiedDocument], rows: Any, digest: str
    ) -> None:
        assert len(documents) == len(rows)
        assert digest == self.models[self.aliases.get(name, name)]
        self.of(name).update({one.id: one for one in documents})
        self._step("write")

    async def delete(self, name: str) -> None:
        assert name not in self.aliases
        self.documents.pop(name, None)
        self.after_delete(name)
        self._step("delete")

    async def assign_alias(self, alias: str, name: str) -> None:
        self._step("assign_alias")
        if alias in self.documents:
            raise AlreadyExists("COLLECTION_EXISTS", "A collection has this name.")
        assert name in self.documents
        self.aliases[alias] = name


class FakeSearch:
    def __init__(self, collections: FakeCollections) -> None:
        self._collections = collections

    async def missing(self, name: str, ids: list[str]) -> list[str]:
        return [key for key in ids if key not in self._collections.of(name)]

    async def delete(self, name: str, ids: list[str]) -> None:
        for key in ids:
            del self._collections.of(name)[key]

    async def assign_alias(self, alias: str, name: str) -> None:
        await self._collections.assign_alias(alias, name)


class FakeEmbedder:
    def __init__(self) -> None:
        self.model = NEW
        self.texts: list[str] = []

    async def embed_documents(self, texts: list[str], *, bulk: bool) -> Vectors:
        assert bulk
        self.texts += texts
        return Vectors(np.ones((len(texts), 2), np.float32), "m", self.model.digest)


class FakeDocuments:
    """The store's lists of chunks; writers hold leases until ``revoke_leases``."""

    def __init__(self, chunks: set[str]) -> None:
        self.chunks = chunks
        self.copies: list[str] = []
        self.revoked = 0
        self.epoch = 0

    async def epochs(self, collections: list[DocumentCollection]) -> list[int]:
        return [self.epoch]

    async def collections(self) -> list[DocumentCollection]:
        return [NOTES]

    async def unlisted(self, collection: DocumentCollection, ids: list[str]) -> set[str]:
        return {*ids} - self.chunks if collection == NOTES else {*ids}

    async def set_copy(self, collection: DocumentCollection, name: str) -> None:
        self.copies.append(name)

    async def revoke_leases(self, collection: DocumentCollection) -> None:
        self.revoked += 1


def chunk(number: int) -> CopiedDocument:
    text = f"Title\nbefore text {number} after"
    place = {"title": "Title", "section": "", "lead": 13, "start": 7, "end": 12 + len(str(number))}
    return CopiedDocument(f"doc#{number:03}", text, json.dumps(place).encode(), None)


@pytest.fixture
def collections() -> FakeCollections:
    chunks = [chunk(number) for number in range(types.BATCH_SIZE * 2 + 5)]
    return FakeCollections({NAME: {one.id: one for one in chunks}}, {NAME: OLD.digest})


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def documents(collections: FakeCollections) -> FakeDocuments:
    return FakeDocuments({*collections.documents[NAME]})


@pytest.fixture
def reembedder(
    collections: FakeCollections, embedder: FakeEmbedder, documents: FakeDocuments
) -> DocumentReembedder:
    parts: list[Any] = [documents, embedder, FakeSearch(collections), collections]
    return DocumentReembedder(*parts)


async def test_a_collection_becomes_an_alias_of_its_copy(
    collections: FakeCollections, embedder: FakeEmbedder, reembedder: DocumentReembedder
) -> None:
    before = dict(collections.documents[NAME])
    assert await reembedder.count(NEW.digest) == len(before)
    await reembedder.run(NEW)
    assert collections.documents == {COPY: before}
    assert collections.aliases == {NAME: COPY}
    assert embedder.texts[:2] == ["Title\ntext 0", "Title\ntext 1"]
    assert await reembedder.count(NEW.digest) == 0
    await reembedder.run(NEW)
    assert len(embedder.texts) == len(before)


@pytest.mark.parametrize("step", ["write", "delete", "assign_alias"])
async def test_an_interrupted_run_continues(
    collections: FakeCollections,
    embedder: FakeEmbedder,
    reembedder: DocumentReembedder,
    step: str,
) -> None:
    before = dict(collections.documents[NAME])
    collections.fail = step
    with pytest.raises(Unavailable):
        await reembedder.run(NEW)
    await reembedder.run(NEW)
    assert collections.documents == {COPY: before}
    assert collections.aliases == {NAME: COPY}
    assert len(embedder.texts) == len(before)


async def test_a_chunk_that_is_deleted_during_the_copy_is_not_in_the_copy(
    collections: FakeCollections, reembedder: DocumentReembedder
) -> None:
    collections.documents[COPY] = {"doc#deleted": replace(chunk(0), id="doc#deleted")}
    collections.models[COPY] = NEW.digest
    await reembedder.run(NEW)
    assert "doc#deleted" not in collections.documents[COPY]


async def test_a_document_that_is_deleted_just_before_the_swap_is_not_served(
    collections: FakeCollections, reembedder: DocumentReembedder, documents: FakeDocuments
) -> None:
    """Its writer has deleted its chunks from the source, and then from the store."""

    def delete_late(name: str) -> None:
        if name == NAME:
            documents.chunks -= {"doc#000", "doc#050"}

    collections.after_delete = delete_late
    await reembedder.run(NEW)
    assert collections.documents[COPY].keys() == documents.chunks
    assert documents.revoked == 1  # writers that were still at work start again on the copy
    assert documents.copies == [COPY, ""]


async def test_the_copy_is_cleaned_if_the_work_was_interrupted_after_the_swap(
    collections: FakeCollections, reembedder: DocumentReembedder, documents: FakeDocuments
) -> None:
    collections.documents[COPY] = collections.documents.pop(NAME)
    collections.models[COPY], collections.aliases[NAME] = NEW.digest, COPY
    documents.chunks -= {"doc#000"}
    await reembedder.run(NEW)
    assert collections.documents[COPY].keys() == documents.chunks


async def test_chunks_that_are_written_during_the_copy_are_copied(
    collections: FakeCollections,
    embedder: FakeEmbedder,
    reembedder: DocumentReembedder,
    documents: FakeDocuments,
) -> None:
    before = len(documents.chunks)

    def write_late(name: str) -> None:
        if name == COPY:  # the first pass over the source has ended
            late = {"aaa#late": replace(chunk(0), id="aaa#late"), "doc#007": chunk(8)}
            late["doc#007"] = replace(late["doc#007"], id="doc#007")
            collections.documents[NAME] |= late
            documents.chunks.add("aaa#late")
            documents.epoch += 1
            collections.before_page = lambda name: None

    collections.before_page = write_late
    await reembedder.run(NEW)
    assert collections.documents[COPY].keys() == documents.chunks
    assert collections.documents[COPY]["doc#007"].text == chunk(8).text
    assert len(embedder.texts) == before + 2


async def test_a_collection_that_keeps_changing_is_replaced_too(
    collections: FakeCollections, reembedder: DocumentReembedder, documents: FakeDocuments
) -> None:
    def change(name: str) -> None:
        documents.epoch += 1

    collections.before_page = change
    await reembedder.run(NEW)
    assert collections.aliases == {NAME: COPY}


@pytest.mark.parametrize("model", [OLD, NEW])
async def test_an_ingest_between_the_two_steps_of_the_swap_hides_nothing(
    collections: FakeCollections,
    reembedder: DocumentReembedder,
    documents: FakeDocuments,
    model: TextModel,
) -> None:
    """It comes from another version or another model, so it does not adopt the copy."""

    def create(name: str) -> None:
        collections.after_delete = lambda name: None
        collections.documents[NAME] = {"aaa#new": replace(chunk(0), id="aaa#new")}
        collections.models[NAME] = model.digest
        documents.chunks.add("aaa#new")

    collections.after_delete = create
    with pytest.raises(AlreadyExists):
        await reembedder.run(NEW)
    documents.chunks.remove("doc#007")  # it was deleted from the new collection alone
    assert await reembedder.count(NEW.digest) > 0
    await reembedder.run(NEW)
    [left] = collections.documents.values()
    assert left.keys() == documents.chunks
    found = await collections.describe(NAME)
    assert found
    assert found.model_digest == NEW.digest
    assert await reembedder.count(NEW.digest) == 0


async def test_a_copy_for_a_model_that_has_gone_is_deleted(
    collections: FakeCollections, embedder: FakeEmbedder, reembedder: DocumentReembedder
) -> None:
    """The model changed back before the copy was complete."""
    await collections.create_like(NAME, COPY, NEW.digest, NEW.dimensions)
    collections.documents[COPY]["doc#000"] = chunk(0)
    before = dict(collections.documents[NAME])
    embedder.model = OLD
    assert await reembedder.count(OLD.digest) == 1
    await reembedder.run(OLD)
    assert collections.documents == {NAME: before}
    assert embedder.texts == []


async def test_an_empty_collection_gets_the_model_too(
    collections: FakeCollections, reembedder: DocumentReembedder
) -> None:
    """Otherwise its next ingest is refused."""
    empty = "documents-empty"
    collections.documents[empty], collections.models[empty] = {}, OLD.digest
    await reembedder.run(NEW)
    assert collections.aliases[empty] == DocumentCollection("empty").copy_name(NEW.digest)


async def test_the_vectors_of_a_third_model_are_not_written(
    collections: FakeCollections, embedder: FakeEmbedder, reembedder: DocumentReembedder
) -> None:
    embedder.model = TextModel("third", 2, 256)
    with pytest.raises(Unavailable, match="another model"):
        await reembedder.run(NEW)
    assert collections.documents[COPY] == {}
    assert NAME in collections.documents
