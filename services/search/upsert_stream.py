"""Writes the documents of a stream in concurrent batches, and returns receipts in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.errors import Failure
from services.search.types import Document

# Number of documents that one script writes.
_WRITE_BATCH = 8
# Number of batches that can be in flight while the next one is read.
_MAX_IN_FLIGHT = 4


@dataclass(frozen=True)
class Receipt:
    """The outcome for one document: created or updated, or ``failure``."""

    id: str
    created: bool = False
    failure: Failure | None = None


# The id of a document, and the document or the reason why it cannot be written.
Item = tuple[str, Document | Failure]
Write = Callable[[Sequence[Document]], Awaitable[list[bool]]]
_WriteTask = asyncio.Task[list[Receipt]]


async def write_batches(
    batches: AsyncIterator[Sequence[Item]], write: Write
) -> AsyncIterator[list[Receipt]]:
    """Write batches; yield the receipts of each, in order.

    A batch with an id that an earlier batch is still writing waits for that batch, so the last
    version of a document wins. Nothing is read while ``_MAX_IN_FLIGHT`` batches are in flight, so a
    fast sender waits.
    """
    in_flight: asyncio.Queue[_WriteTask | None] = asyncio.Queue(_MAX_IN_FLIGHT)
    reader = asyncio.create_task(_start_writes(batches, write, in_flight))
    task = None
    try:
        while task := await in_flight.get():
            yield await task
        await reader
    finally:
        reader.cancel()
        unfinished = [task] + [in_flight.get_nowait() for _ in range(in_flight.qsize())]
        for one in unfinished:
            if one:
                one.cancel()


async def _start_writes(
    batches: AsyncIterator[Sequence[Item]],
    write: Write,
    in_flight: asyncio.Queue[_WriteTask | None],
) -> None:
    """Start a write for each batch; put it into the queue, and None at the end."""
    writing: dict[_WriteTask, set[str]] = {}
    try:
        async for batch in batches:
            ids = {document_id for document_id, _ in batch}
            writing = {task: others for task, others in writing.items() if not task.done()}
            conflicting = [task for task, others in writing.items() if ids & others]
            task = asyncio.create_task(_write_batch(batch, write, conflicting))
            writing[task] = ids
            await in_flight.put(task)
    finally:
        await in_flight.put(None)


async def _write_batch(
    batch: Sequence[Item], write: Write, conflicting: Sequence[_WriteTask]
) -> list[Receipt]:
    """Write a batch when the conflicting ones are done; return a receipt for each item."""
    if conflicting:
        await asyncio.wait(conflicting)
    receipts: dict[int, Receipt] = {}
    valid: list[tuple[int, Document]] = []
    for number, (document_id, item) in enumerate(batch):
        if isinstance(item, Failure):
            receipts[number] = Receipt(document_id, failure=item)
        else:
            valid.append((number, item))
    for first in range(0, len(valid), _WRITE_BATCH):
        chunk = valid[first : first + _WRITE_BATCH]
        try:
            created = await write([document for _, document in chunk])
        except Failure as failure:
            receipts |= {at: Receipt(one.id, failure=failure) for at, one in chunk}
        else:
            for (at, one), is_new in zip(chunk, created, strict=True):
                receipts[at] = Receipt(one.id, created=is_new)
    return [receipts[number] for number in range(len(batch))]
