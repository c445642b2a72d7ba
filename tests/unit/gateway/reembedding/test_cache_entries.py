from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.errors import Unavailable
from services.gateway.backends.collections import CollectionInfo
from services.gateway.backends.types import TextModel, Vectors
from services.gateway.cache import index
from services.gateway.cache.store import StoredEntry
from services.gateway.cache.types import Context
from services.gateway.redis_store import Record
from services.gateway.reembedding.cache_entries import EntryReembedder, embedding_text

BATCH = 32
MODEL = TextModel("new", 2, 256)
CONVERSATION = Context(history=[("user", "Hello")]).parts
ALONE = Context().parts


def record(prompt: str, parts: dict[str, str] = ALONE, **detail: Any) -> Record:
    return {"prompt": prompt, "parts": parts, "detail": detail}


class FakeStore:
    """Entries by id with the digest of their model."""

    def __init__(self, records: list[Record]) -> None:
        self.entries = {f"{number:04}": ("old", one) for number, one in enumerate(records)}

    async def count_by_model(self) -> Any:
        return Counter(digest for digest, _ in self.entries.values())

    async def entries_of_other_models(self, digest: str) -> AsyncIterator[list[StoredEntry]]:
        found = [
            StoredEntry(key, b"", record | {"digest": model}, 0.0)
            for key, (model, record) in self.entries.items()
            if model != digest
        ]
        for first in range(0, len(found), BATCH):
            yield found[first : first + BATCH]


class FakeCache:
    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def replace_vector(self, stored: StoredEntry, vectors: Vectors) -> None:
        assert vectors.rows.shape == (1, 2)
        self._store.entries[stored.id] = (vectors.digest, stored.record)


class FakeEmbedder:
    digest = MODEL.digest

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def embed_queries(self, texts: list[str], *, bulk: bool) -> Vectors:
        assert bulk
        self.batches.append(texts)
        return Vectors(np.ones((len(texts), 2), np.float32), "m", self.digest)


class FakeCollections:
    """One collection of each model, one that has no model, and one of a user."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        names = {index.collection_names(model)[3]: model for model in ("older", "old", "new")}
        self.models = names | {"cache-mine-3": "old", "plain": ""}

    async def list_all(self) -> list[CollectionInfo]:
        return [CollectionInfo(name, model, 1) for name, model in self.models.items()]

    async def delete(self, name: str) -> None:
        self.deleted.append(name)


def build(records: list[Record]) -> tuple[Any, Any, Any, EntryReembedder]:
    store, embedder, collections = FakeStore(records), FakeEmbedder(), FakeCollections()
    parts: list[Any] = [store, FakeCache(store), embedder, collections]
    return store, embedder, collections, EntryReembedder(*parts)


async def test_all_entries_of_other_models_are_embedded_in_batches() -> None:
    store, embedder, collections, entries = build([record(f"p{n}") for n in range(250)])
    assert await entries.count("new") == 250
    await entries.run(MODEL)
    assert {digest for digest, _ in store.entries.values()} == {"new"}
    assert max(map(len, embedder.batches)) == BATCH
    assert sorted(text for batch in embedder.batches for text in batch) == sorted(
        f"p{n}" for n in range(250)
    )
    assert collections.deleted == ["cache-older-3", "cache-old-3"]
    assert await entries.count("new") == 0


async def test_a_conversation_needs_its_embedded_text() -> None:
    known = record("And there?", CONVERSATION, embedding_text="Hello\nAnd there?")
    store, embedder, _, entries = build([known, record("And here?", CONVERSATION)])
    await entries.run(MODEL)
    assert embedder.batches == [["Hello\nAnd there?"]]
    assert [digest for digest, _ in store.entries.values()] == ["new", "old"]


async def test_callers_vectors_and_their_collections_stay() -> None:
    of_caller = record("from a caller", vector_from_caller=True)
    store, embedder, collections, entries = build([record("p"), of_caller])
    await entries.run(MODEL)
    assert embedder.batches == [["p"]]
    assert [digest for digest, _ in store.entries.values()] == ["new", "old"]
    assert collections.deleted == ["cache-older-3"]
    assert await entries.count("new") == 1


async def test_the_vectors_of_a_third_model_are_not_stored() -> None:
    store, embedder, collections, entries = build([record("p")])
    embedder.digest = "third"
    with pytest.raises(Unavailable, match="another model"):
        await entries.run(MODEL)
    assert store.entries["0000"][0] == "old"
    assert not collections.deleted


def test_the_text_that_was_embedded() -> None:
    assert embedding_text(record("p")) == "p"
    assert embedding_text({"prompt": "p", "parts": {}, "detail": {}}) == "p"
    assert embedding_text(record("p", CONVERSATION)) == ""
    assert embedding_text(record("p", CONVERSATION, embedding_text="h\np")) == "h\np"
    assert embedding_text(record("p", vector_from_caller=True)) == ""
