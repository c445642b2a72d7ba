"""Writes documents as they arrive: a few batches at once, a receipt for each document, in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.errors import Failure
from services.search.types import Document

# Documents that are written together, all or none.
_TOGETHER = 64
# Batches that are being written while the next is read.
_IN_FLIGHT = 4


@dataclass(frozen=True)
class Receipt:
    """What became of a document: ``created``, replaced, or not written and why."""

    id: str
    created: bool = False
    failure: Failure | None = None


# A document, or what is wrong with the one of this id.
Item = tuple[str, Document | Failure]
Write = Callable[[Sequence[Document]], Awaitable[list[bool]]]


async def receive(
    batches: AsyncIterator[Sequence[Item]], write: Write
) -> AsyncIterator[list[Receipt]]:
    """Write batches; give the receipts of each, in order.

    Nothing is overtaken: a batch with an id that is in flight waits for that. Nothing is read while
    ``_IN_FLIGHT`` batches are being written, so a fast sender waits.
    """
    flight: asyncio.Queue[asyncio.Task[list[Receipt]] | None] = asyncio.Queue(_IN_FLIGHT)
    reader = asyncio.create_task(_read(batches, write, flight))
    task = None
    try:
        while task := await flight.get():
            yield await task
        await reader
    finally:
        reader.cancel()
        left = [task] + [flight.get_nowait() for _ in range(flight.qsize())]
        for one in left:
            if one:
                one.cancel()


async def _read(
    batches: AsyncIterator[Sequence[Item]],
    write: Write,
    flight: "asyncio.Queue[asyncio.Task[list[Receipt]] | None]",
) -> None:
    writing: dict[asyncio.Task[list[Receipt]], set[str]] = {}
    try:
        async for batch in batches:
            ids = {key for key, _ in batch}
            writing = {task: others for task, others in writing.items() if not task.done()}
            before = [task for task, others in writing.items() if ids & others]
            task = asyncio.create_task(_write(batch, write, before))
            writing[task] = ids
            await flight.put(task)
    finally:
        await flight.put(None)


async def _write(
    batch: Sequence[Item], write: Write, before: Sequence["asyncio.Task[list[Receipt]]"]
) -> list[Receipt]:
    if before:
        await asyncio.wait(before)
    receipts: dict[int, Receipt] = {}
    good: list[tuple[int, Document]] = []
    for number, (key, item) in enumerate(batch):
        if isinstance(item, Failure):
            receipts[number] = Receipt(key, failure=item)
        else:
            good.append((number, item))
    for first in range(0, len(good), _TOGETHER):
        some = good[first : first + _TOGETHER]
        try:
            created = await write([document for _, document in some])
        except Failure as failure:
            receipts |= {at: Receipt(one.id, failure=failure) for at, one in some}
        else:
            for (at, one), new in zip(some, created, strict=True):
                receipts[at] = Receipt(one.id, created=new)
    return [receipts[number] for number in range(len(batch))]
