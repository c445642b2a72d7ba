import numpy as np
import pytest

from services.errors import Failure, Unavailable
from services.gateway.backends.collections import CollectionInfo
from services.gateway.backends.types import CollectionSpec, Document
from services.gateway.cache import index, old_indexes
from services.gateway.cache.old_indexes import OldIndexes
from tests.fakes.backends import DIMENSIONS, FakeEmbedder, FakeSearch

DIGEST = "0123456789abcdef" * 4
OLD = "cache-0123456789abcdef-5"
NEW = f"cache-{DIGEST}-5"


class Collections:
    """The collections of a search, as their client lists and deletes them."""

    def __init__(self, search: FakeSearch) -> None:
        self.search = search
        self.failures: list[Failure] = []

    async def list_all(self) -> list[CollectionInfo]:
        if self.failures:
            raise self.failures.pop()
        aliases = {target: alias for alias, target in self.search.aliases.items()}
        return [
            CollectionInfo(
                name,
                one.spec.model_digest,
                len(one.documents),
                (aliases[name],) if name in aliases else (),
                one.spec.dimensions,
            )
            for name, one in self.search.collections.items()
        ]

    async def delete(self, name: str) -> None:
        del self.search.collections[name]


class Old:
    """An earlier version's collections."""

    def __init__(self) -> None:
        self.search = FakeSearch()
        self.collections = Collections(self.search)
        self.embedder = FakeEmbedder(DIGEST)
        self.indexes = OldIndexes(self.collections, self.search, self.embedder)  # type: ignore[arg-type]

    async def create(self, name: str, digest: str = DIGEST, dimensions: int = DIMENSIONS) -> None:
        await self.search.ensure(CollectionSpec(name, dimensions, digest))
        document = Document("entry", np.ones(dimensions, np.float32))
        await self.search.upsert(name, [document], digest)


async def test_old_collections_get_their_present_names() -> None:
    old = Old()
    others = "fedcba9876543210" * 4
    await old.create(OLD)
    await old.create("cache-fedcba9876543210-31", others, 3)
    await old.create("documents-notes")
    for _ in range(2):
        await old.indexes.adopt_all()
        assert old.search.aliases == {
            NEW: OLD,
            f"cache-{others}-31": "cache-fedcba9876543210-31",
        }
    assert list(old.search.documents(NEW)) == ["entry"]
    assert index.is_named(OLD, DIGEST)
    assert index.is_named(NEW, DIGEST)
    assert not index.is_named(OLD, others)


async def test_a_collection_that_a_caller_broke_is_deleted() -> None:
    old = Old()
    await old.create(OLD, dimensions=3)
    await old.indexes.adopt_all()
    assert (old.search.collections, old.search.aliases) == ({}, {})


async def test_a_name_that_is_taken_stays() -> None:
    old = Old()
    await old.create(OLD)
    await old.create(NEW)
    await old.indexes.adopt_all()
    assert old.search.aliases == {}


async def test_a_failure_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Old()
    await old.create(OLD)
    old.collections.failures = [Unavailable("NEIGHBOUR_UNAVAILABLE", "Search is starting.")]
    monkeypatch.setattr(old_indexes, "RETRY_SECONDS", 0.0)
    await old.indexes.adopt_all()
    assert old.search.aliases == {NEW: OLD}


async def test_a_new_collection_takes_over_the_old_one_of_its_model() -> None:
    old = Old()
    spec = CollectionSpec(NEW, DIMENSIONS, DIGEST)
    assert not await old_indexes.adopt_for(old.search, spec)
    await old.create(OLD, "another model")
    assert not await old_indexes.adopt_for(old.search, spec)
    del old.search.collections[OLD]
    await old.create(OLD)
    assert await old_indexes.adopt_for(old.search, spec)
    assert list(old.search.documents(NEW)) == ["entry"]
    assert not await old_indexes.adopt_for(old.search, CollectionSpec("other", 2, DIGEST))
