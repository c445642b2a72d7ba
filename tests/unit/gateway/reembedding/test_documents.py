import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from services.errors import Unavailable
from services.gateway.backends.collections import CollectionInfo, CopiedDocument
from services.gateway.backends.types import TextModel, Vectors
from services.gateway.reembedding import types
from services.gateway.reembedding.documents import DocumentReembedder, copy_name

OLD, NEW = TextModel("old" * 8, 2, 256), TextModel("new" * 8, 2, 256)
NAME, COPY = "documents-notes", copy_name("notes", NEW.digest)


@dataclass
class FakeCollections:
    """Collections and aliases in memory; ``fail`` names the operation that fails once."""

    documents: dict[str, dict[str, CopiedDocument]]
    models: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    fail: str = ""

    def _step(self, name: str) -> None:
        if self.fail == name:
            self.fail = ""
            raise Unavailable("SEARCH_UNAVAILABLE", "Search is unreachable.")

    async def describe(self, name: str) -> CollectionInfo | None:
        real = self.aliases.get(name, name)
        if real not in self.documents:
            return None
        return CollectionInfo(real, self.models[real], len(self.documents[real]))

    async def create_like(self, source: str, name: str, digest: str, dimensions: int) -> None:
        assert source in self.documents or source in self.aliases
        assert dimensions == NEW.dimensions
        self.documents.setdefault(name, {})
        self.models.setdefault(name, digest)

    async def page(self, name: str, size: int, token: str) -> tuple[list[CopiedDocument], str]:
        keys = sorted(key for key in self.documents[name] if key > token)
        more = keys[size - 1] if len(keys) > size else ""
        return [self.documents[name][key] for key in keys[:size]], more

    async def write(
        self, name: str, documents: list[CopiedDocument], rows: Any, digest: str
    ) -> None:
        assert len(documents) == len(rows)
        assert digest == self.models[name]
        self.documents[name] |= {one.id: one for one in documents}
        self._step("write")

    async def delete(self, name: str) -> None:
        assert name not in self.aliases
        self.documents.pop(name, None)
        self._step("delete")

    async def assign_alias(self, alias: str, name: str) -> None:
        assert alias not in self.documents, "an alias cannot have the name of a collection"
        assert name in self.documents
        self._step("assign_alias")
        self.aliases[alias] = name


class FakeSearch:
    def __init__(self, collections: FakeCollections) -> None:
        self._collections = collections

    async def missing(self, name: str, ids: list[str]) -> list[str]:
        return [key for key in ids if key not in self._collections.documents[name]]

    async def delete(self, name: str, ids: list[str]) -> None:
        for key in ids:
            del self._collections.documents[name][key]


class FakeEmbedder:
    def __init__(self) -> None:
        self.model = NEW
        self.texts: list[str] = []

    async def embed_documents(self, texts: list[str], *, bulk: bool) -> Vectors:
        assert bulk
        self.texts += texts
        return Vectors(np.ones((len(texts), 2), np.float32), "m", self.model.digest)


class FakeDocuments:
    async def collections(self) -> list[str]:
        return ["notes"]


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
def reembedder(collections: FakeCollections, embedder: FakeEmbedder) -> DocumentReembedder:
    parts: list[Any] = [FakeDocuments(), embedder, FakeSearch(collections), collections]
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


async def test_the_vectors_of_a_third_model_are_not_written(
    collections: FakeCollections, embedder: FakeEmbedder, reembedder: DocumentReembedder
) -> None:
    embedder.model = TextModel("third", 2, 256)
    with pytest.raises(Unavailable, match="another model"):
        await reembedder.run(NEW)
    assert collections.documents[COPY] == {}
    assert NAME in collections.documents
