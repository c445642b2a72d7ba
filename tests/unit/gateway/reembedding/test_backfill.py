from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from services.errors import InvalidArgument, Unavailable
from services.gateway.backends.types import Vectors
from services.gateway.cache.store import StoredEntry
from services.gateway.cache.types import EMBEDDING_TEXT, Context
from services.gateway.redis_store import dump
from services.gateway.reembedding.backfill import BATCH_SIZE, Backfill

PARTS = Context().parts
IN_CONVERSATION = Context(history=[("user", "Hello")]).parts


class FakeStore:
    """Entries without a vector, by id."""

    def __init__(self, *prompts: str) -> None:
        self.left = {prompt: stored(prompt) for prompt in prompts}

    async def entries_without_vector(self, count: int) -> list[StoredEntry]:
        return list(self.left.values())[:count]

    async def leave_without_vector(self, entry_ids: Sequence[str]) -> None:
        for one in entry_ids:
            del self.left[one]


class FakeCache:
    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.indexed: dict[str, str] = {}

    async def replace_vector(self, entry: StoredEntry, vectors: Vectors) -> None:
        self.indexed[entry.id] = vectors.digest
        await self._store.leave_without_vector([entry.id])


class FakeEmbedder:
    """Fails for the texts of ``failures``."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.failures: dict[str, Exception] = {}

    async def embed_queries(self, texts: list[str], *, bulk: bool) -> Vectors:
        assert bulk
        self.texts += texts
        if texts[0] in self.failures:
            raise self.failures[texts[0]]
        return Vectors(np.ones((1, 2), np.float32), "m", "digest")


def stored(prompt: str, parts: dict[str, str] = PARTS, **detail: str) -> StoredEntry:
    record = {"prompt": prompt, "parts": parts, "detail": detail}
    return StoredEntry(prompt, dump(record), record, 0.0)


def build(*prompts: str) -> tuple[Any, Any, Any, Backfill]:
    store, embedder = FakeStore(*prompts), FakeEmbedder()
    cache = FakeCache(store)
    parts: list[Any] = [store, cache, embedder]
    return store, cache, embedder, Backfill(*parts)


async def test_all_entries_without_a_vector_are_indexed() -> None:
    prompts = [f"prompt {number}" for number in range(2 * BATCH_SIZE + 1)]
    store, cache, embedder, backfill = build(*prompts)
    await backfill.run()
    assert cache.indexed == dict.fromkeys(prompts, "digest")
    assert sorted(embedder.texts) == sorted(prompts)
    assert not store.left


async def test_entries_wait_until_the_embedder_works_again() -> None:
    store, cache, embedder, backfill = build("prompt")
    embedder.failures["prompt"] = Unavailable("NEIGHBOUR_UNAVAILABLE", "Nobody answers.")
    with pytest.raises(Unavailable):
        await backfill.run()
    assert store.left
    embedder.failures.clear()
    await backfill.run()
    assert cache.indexed == {"prompt": "digest"}


async def test_an_entry_that_cannot_be_embedded_does_not_hold_up_the_others() -> None:
    store, cache, embedder, backfill = build("bad", "good")
    embedder.failures["bad"] = InvalidArgument("TOO_LONG", "The text is too long.")
    await backfill.run()
    assert cache.indexed == {"good": "digest"}
    assert not store.left


async def test_a_conversation_is_embedded_with_its_context() -> None:
    store, cache, embedder, backfill = build()
    text = {EMBEDDING_TEXT: "Hello\nand there"}
    store.left["and there"] = stored("and there", IN_CONVERSATION, **text)
    store.left["of an old version"] = stored("of an old version", IN_CONVERSATION)
    await backfill.run()
    assert embedder.texts == ["Hello\nand there"]
    assert list(cache.indexed) == ["and there"]
    assert not store.left
