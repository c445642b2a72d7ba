import datetime
from typing import Any

import pytest

from services.errors import Unavailable
from services.gateway.backends.collections import CollectionInfo
from services.gateway.rag.ingest.batched_backends import BatchedBackends
from services.gateway.rag.ingest.parsers import plain
from services.gateway.rag.ingest.preparation import prepare
from services.gateway.rag.ingest.removal import CollectionRemoval, is_over
from services.gateway.rag.ingest.types import DocumentCollection, Source
from services.gateway.rag.ingest.writer import DocumentWriter
from tests.fakes.backends import FakeSearch, fake_backends
from tests.fakes.documents import FakeDocumentStore
from tests.fakes.tenants import fake_tenants

TODAY = datetime.date(2026, 11, 28)
RANDOM = "0123456789abcdef"


class FakeCollections:
    """Describes and deletes collections of a fake search."""

    def __init__(self, search: FakeSearch) -> None:
        self._search = search

    async def describe(self, name: str) -> CollectionInfo | None:
        if name not in self._search.collections:
            return None
        return CollectionInfo(name, "digest", len(self._search.documents(name)))

    async def delete(self, name: str) -> None:
        del self._search.collections[name]


class World:
    def __init__(self) -> None:
        self.both, _, self.search = fake_backends()
        self.store = FakeDocumentStore()
        self.writer = DocumentWriter(self.store, self.both)
        collections: Any = FakeCollections(self.search)
        self.removal = CollectionRemoval(self.store, self.writer, collections, fake_tenants())

    async def write(self, collection: str, key: str) -> None:
        backends = BatchedBackends(self.both, "caller")
        source = Source(collection, key, "", "text/plain", {}, b"An otter swims.")
        document = plain.parse(source.content)
        prepared = await prepare(source, "text/plain", "v1", document, backends)
        await self.writer.write(prepared, backends)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"visitor-2026-11-28-{RANDOM}", False),
        (f"visitor-2026-11-27-{RANDOM}", False),
        (f"visitor-2026-11-29-{RANDOM}", False),  # a visitor in another time zone
        (f"visitor-2026-11-26-{RANDOM}", True),
        (f"visitor-9999-11-26-{RANDOM}", True),
        (f"visitor-2026-02-31-{RANDOM}", False),
        ("visitor-2026-11-26", False),
        (f"memes-2026-11-26-{RANDOM}", False),
        (f"my-visitor-2026-11-26-{RANDOM}", False),
    ],
)
def test_only_visitors_of_earlier_days_are_over(name: str, expected: bool) -> None:
    assert is_over(name, TODAY) is expected


async def test_a_collection_is_deleted_with_its_index() -> None:
    world = World()
    for key in ("a", "b"):
        await world.write("mine", key)
    await world.write("other", "a")
    assert await world.removal.delete("mine") == 2
    assert await world.removal.delete("mine") == 0
    assert set(world.search.collections) == {"documents-other"}


async def test_the_sweep_takes_only_old_visitors() -> None:
    world = World()
    old, new = (f"visitor-2026-11-{day}-{RANDOM}" for day in (20, 28))
    for name in (old, new, "memes"):
        await world.write(name, "a")
    assert await world.removal.sweep(TODAY) == 1
    assert set(world.search.collections) == {f"documents-{new}", "documents-memes"}


async def test_a_collection_that_cannot_be_deleted_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    first, second = (f"visitor-2026-11-{day}-{RANDOM}" for day in (20, 21))
    for name in (first, second):
        await world.write(name, "a")
    delete = DocumentWriter.delete

    async def fail(writer: DocumentWriter, collection: DocumentCollection, key: str) -> None:
        if collection.name == first:
            raise Unavailable("GONE", "It is gone.")
        await delete(writer, collection, key)

    monkeypatch.setattr(DocumentWriter, "delete", fail)
    assert await world.removal.sweep(TODAY) == 1
    assert set(world.search.collections) == {f"documents-{first}"}
