from collections.abc import AsyncIterator

import pytest

from services.errors import InvalidArgument, NotFound, Unavailable
from services.gateway.backends.types import TextReading
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.types import Receipt, Source
from tests.fakes.backends import fake_backends
from tests.fakes.documents import FakeDocumentStore
from tests.fakes.parsers import FakeParserPool
from tests.fakes.tenants import C, fake_tenants


class World:
    """A service on fakes."""

    def __init__(self) -> None:
        both, self.embedder, self.search = fake_backends()
        self.store = FakeDocumentStore()
        self.parsers = FakeParserPool()
        self.service = IngestService(self.store, both, self.parsers, fake_tenants())

    async def ingest(self, *documents: tuple[str, str], collection: str = "c") -> list[Receipt]:
        async def sources() -> AsyncIterator[Source]:
            for key, text in documents:
                yield Source(collection, key, "", "text/plain", {}, text.encode())

        return [receipt async for receipt in self.service.ingest(sources())]


@pytest.fixture
def world() -> World:
    return World()


async def test_receipts_come_in_the_order_of_the_documents(world: World) -> None:
    texts = {str(number): f"The number is {number}." for number in range(200)}
    receipts = await world.ingest(*texts.items())
    assert [one.id for one in receipts] == list(texts)
    assert {(one.status, one.chunks, one.embedded) for one in receipts} == {("created", 1, 1)}
    assert len(world.search.documents("documents-c")) == 200


async def test_an_unchanged_document_is_not_ingested_again(world: World) -> None:
    [created] = await world.ingest(("a", "One."))
    [unchanged] = await world.ingest(("a", "One."))
    [updated] = await world.ingest(("a", "Two."))
    assert [one.status for one in (created, unchanged, updated)] == [
        "created",
        "unchanged",
        "updated",
    ]
    assert (unchanged.version, unchanged.embedded) == (created.version, 0)
    assert (await world.service.get("c", "a")).text == "Two."


async def test_an_unchanged_document_gets_the_source_that_a_caller_names(world: World) -> None:
    await world.ingest(("a", "One."))
    embedded = list(world.embedder.embedded)

    async def sources() -> AsyncIterator[Source]:
        for origin in ("folder:1", "", "folder:1"):
            yield Source("c", "a", "", "", {}, b"One.", origin=origin)

    statuses = [receipt.status async for receipt in world.service.ingest(sources())]
    assert statuses == ["updated", "unchanged", "unchanged"]
    assert (await world.service.get("c", "a")).origin == "folder:1"
    assert world.embedder.embedded == embedded


async def test_a_document_whose_change_died_is_ingested_again(world: World) -> None:
    await world.ingest(("a", "One."))
    await world.store.acquire(C, "a", ["a#new"])  # and then the writer dies
    [again] = await world.ingest(("a", "One."))
    assert again.status == "updated"
    assert "a#new" not in world.store.chunk_ids[C, "a"]


async def test_a_receipt_warns_of_chunks_that_the_model_does_not_read(world: World) -> None:
    world.embedder.readings["Один."] = TextReading(readable=False)
    read, unread = await world.ingest(("a", "One."), ("b", "Один."))
    assert read.warnings == []
    [warning] = unread.warnings
    assert "cannot read 1 of 1 embedded chunks" in warning
    assert unread.status == "created"


async def test_versions_in_one_stream_end_with_the_last(world: World) -> None:
    versions = [("a", f"The number is {number}.") for number in range(12)]
    receipts = await world.ingest(*versions)
    assert [one.status for one in receipts] == ["created", *["updated"] * 11]
    assert (await world.service.get("c", "a")).text == "The number is 11."
    assert len(world.search.documents("documents-c")) == 1


async def test_a_failure_is_a_receipt_and_the_others_are_ingested(world: World) -> None:
    receipts = await world.ingest(("a", "One."), ("b", " \n"), ("c", "Three."))
    assert [one.status for one in receipts] == ["created", "failed", "created"]
    assert receipts[1].reason == "EMPTY_DOCUMENT"
    assert receipts[1].message
    [bad] = await world.ingest(("a", "x"), collection="no name")
    assert bad.reason == "BAD_COLLECTION_NAME"


async def test_a_failed_update_leaves_the_earlier_version(world: World) -> None:
    await world.ingest(("a", "One."))
    await world.ingest(("a", ""))
    assert (await world.service.get("c", "a")).text == "One."


async def test_passing_failures_are_retried(world: World) -> None:
    world.embedder.failures = [Unavailable("UNAVAILABLE", "It is away.", retry_after=1e-6)]
    world.store.rivals = 2
    [receipt] = await world.ingest(("a", "One."))
    assert receipt.status == "created"


async def test_an_unexpected_error_is_a_receipt_too(world: World) -> None:
    world.parsers.error = RecursionError()
    [receipt] = await world.ingest(("a", "One."))
    assert (receipt.status, receipt.reason) == ("failed", "INTERNAL")
    world.parsers.error = None
    assert (await world.ingest(("a", "One.")))[0].status == "created"


async def test_an_error_of_the_stream_ends_the_ingest(world: World) -> None:
    async def broken() -> AsyncIterator[Source]:
        yield Source("c", "a", "", "text/plain", {}, b"One.")
        raise InvalidArgument("NO_HEADER", "Content came before a header.")

    receipts = world.service.ingest(broken())
    assert (await anext(receipts)).status == "created"
    with pytest.raises(InvalidArgument):
        await anext(receipts)


async def test_documents_are_listed_and_deleted(world: World) -> None:
    await world.ingest(("b", "Two."), ("a", "One."))
    page, _ = await world.service.page("c", 9, "")
    assert [one.id for one in page] == ["a", "b"]
    world.store.rivals = 1
    assert await world.service.delete("c", "a") == 1
    assert len(world.search.documents("documents-c")) == 1
    for call in (world.service.get, world.service.delete):
        with pytest.raises(NotFound) as caught:
            await call("c", "a")
        assert caught.value.reason == "DOCUMENT_NOT_FOUND"
