import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from services.errors import Failure, InvalidArgument, Unavailable
from services.search.types import Document
from services.search.upsert_stream import Item, Receipt, write_batches
from tests.fakes.search import document


class Store:
    """Writes documents when ``go`` is set; records the ids of each write."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.started: list[list[str]] = []
        self.written: dict[str, Document] = {}
        self.failure: Failure | None = None

    async def write(self, documents: Sequence[Document]) -> list[bool]:
        self.started.append([one.id for one in documents])
        await self.go.wait()
        if self.failure:
            raise self.failure
        created = [one.id not in self.written for one in documents]
        self.written |= {one.id: one for one in documents}
        return created


async def send(*batches: Sequence[Item]) -> AsyncIterator[Sequence[Item]]:
    for batch in batches:
        yield batch


def item(key: str, number: float = 0) -> Item:
    return key, document(key, 1, number)


async def receipts(store: Store, *batches: Sequence[Item]) -> list[list[Receipt]]:
    store.go.set()
    return [one async for one in write_batches(send(*batches), store.write)]


async def test_every_document_has_its_receipt_in_order() -> None:
    found = await receipts(Store(), [item("a"), item("b")], [item("c")], [item("a")], [])
    assert found == [
        [Receipt("a", created=True), Receipt("b", created=True)],
        [Receipt("c", created=True)],
        [Receipt("a")],
        [],
    ]


async def test_an_invalid_document_does_not_affect_the_others() -> None:
    failure = InvalidArgument("BAD_ID", "")
    [found] = await receipts(Store(), [item("a"), ("", failure), item("b")])
    assert found == [Receipt("a", True), Receipt("", failure=failure), Receipt("b", True)]


async def test_a_failed_write_is_the_failure_of_its_documents() -> None:
    store = Store()
    store.failure = Unavailable("REDIS_UNAVAILABLE", "")
    [found] = await receipts(store, [item("a"), item("b")])
    assert [receipt.failure for receipt in found] == [store.failure] * 2


async def test_large_batches_are_written_in_parts() -> None:
    store = Store()
    [found] = await receipts(store, [item(f"d{number}") for number in range(20)])
    assert [len(ids) for ids in store.started] == [8, 8, 4]
    assert [receipt.id for receipt in found] == [f"d{number}" for number in range(20)]


async def test_four_batches_are_written_at_once_and_the_sender_waits() -> None:
    store, sent = Store(), []

    async def batches() -> AsyncIterator[Sequence[Item]]:
        for number in range(20):
            sent.append(number)
            yield [item(f"d{number}")]

    stream = write_batches(batches(), store.write)
    first = asyncio.ensure_future(anext(stream))
    for _ in range(50):
        await asyncio.sleep(0)
    # One that is awaited, four in the queue, and one that waits for room.
    assert len(sent) == 6
    store.go.set()
    assert [one.id for one in await first] == ["d0"]
    assert [[one.id for one in batch] async for batch in stream] == [
        [f"d{number}"] for number in range(1, 20)
    ]


async def test_a_batch_waits_for_an_earlier_one_with_the_same_id() -> None:
    store = Store()
    stream = write_batches(send([item("a", 1)], [item("b")], [item("a", 2)]), store.write)
    first = asyncio.ensure_future(anext(stream))
    for _ in range(50):
        await asyncio.sleep(0)
    assert store.started == [["a"], ["b"]]
    store.go.set()
    await first
    assert [[one.id for one in batch] async for batch in stream] == [["b"], ["a"]]
    assert store.written["a"].vector[1] == 2


async def test_a_failure_of_the_stream_comes_after_the_receipts() -> None:
    async def broken() -> AsyncIterator[Sequence[Item]]:
        yield [item("a")]
        raise InvalidArgument("BAD_SEQUENCE", "")

    store = Store()
    store.go.set()
    stream = write_batches(broken(), store.write)
    assert [one.id for one in await anext(stream)] == ["a"]
    with pytest.raises(InvalidArgument):
        await anext(stream)


async def test_a_caller_that_leaves_cancels_what_is_in_flight() -> None:
    cancelled: list[str] = []

    async def write(documents: Sequence[Document]) -> list[bool]:
        if documents[0].id == "a":
            return [True]
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(documents[0].id)
            raise
        return []

    stream = write_batches(send([item("a")], [item("b")], [item("c")]), write)
    await anext(stream)
    for _ in range(5):
        await asyncio.sleep(0)
    await stream.aclose()  # type: ignore[attr-defined]
    for _ in range(5):
        await asyncio.sleep(0)
    assert sorted(cancelled) == ["b", "c"]
