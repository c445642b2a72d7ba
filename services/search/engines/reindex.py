"""Builds another index of a collection beside the one that answers, and swaps them.

So a lifted index is kept large enough: the first vectors are measured, longer ones have it rebuilt.
And so a collection gets another metric, algorithm or type (``reindex``). The new index fills while
the old one answers; writes go to both; at the end the record names the new one, and the old one is
dropped. A lease keeps it to one process; the record's version, which every script checks, stops one
that lost its lease. It runs on when the call that needed it is gone, and one that died is begun
anew by ``resume``.
"""

import asyncio
import contextvars
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import numpy as np

from services.errors import FailedPrecondition, InvalidArgument
from services.search import metric_transforms
from services.search.engines.catalog import Index, Record, Records
from services.search.engines.connection import Client, asking
from services.search.engines.documents import Documents
from services.search.types import Collection, Document, Vector, check_vector

log = logging.getLogger(__name__)

LEASE_SECONDS = 30
# Few at a time: Redis answers nobody else while a script runs.
_BATCH = 32
_PAUSE = 0.1


class Builder(Protocol):
    """What an engine does for a rebuild; ``copy`` is its script that fills the new index."""

    copy: Any

    async def start(self, record: Record, index: Index) -> None:
        """Make an empty index."""
        ...

    def copied(self, record: Record, documents: Sequence[Document], lifted: Vector) -> list[Any]:
        """Return the arguments of the script for documents and their lifted vectors."""
        ...

    def has_form(self, record: Record) -> bool:
        """Say whether the new index keeps vectors in another form than the documents do."""
        ...

    async def is_complete(self, record: Record, index: Index) -> bool:
        """Say whether the index holds every document."""
        ...

    async def drop(self, record: Record, index: Index) -> None:
        """Remove an index."""
        ...


class Rebuilds:
    """Fits the indexes of collections to the vectors that come."""

    def __init__(
        self, redis: Client, records: Records, documents: Documents, builder: Builder
    ) -> None:
        self._redis = redis
        self._records = records
        self._documents = documents
        self._builder = builder
        self._running: dict[str, asyncio.Task[None]] = {}

    async def fit(
        self, name: str, vectors: Vector, stemmed: Sequence[Sequence[str]], *, expiring: bool
    ) -> Record:
        """Return a record whose index can hold the documents; change it first if it cannot.

        It takes as long as it takes, the caller's deadline at most.
        """
        while True:
            record = await self._records.get(name)
            metric, longest = record.collection.lifted, metric_transforms.longest(vectors)
            if metric != "cosine" and not record.index.max_norm:
                index = Index(record.index.generation, *metric_transforms.measure(vectors))
                changed = await self._records.change(record, index=index)
            elif longest > record.index.lift(metric).max_norm:
                changed = None
                await self._run(name, max_norm=metric_transforms.HEADROOM * longest)
            elif record.target and not _fit(vectors, record):
                changed = None
                await self._run(name)
            elif expiring and not record.expiring:
                changed = await self._records.change(record, expiring=True)
            elif any(stemmed) and not record.average_length:
                lengths = [len(stems) for stems in stemmed if stems]
                average = sum(lengths) / len(lengths)
                changed = await self._records.change(record, average_length=average)
            else:
                return record
            if changed is None:
                await self._records.read(name)

    async def resume(self, record: Record) -> None:
        """End a rebuild whose process died, if there is one."""
        if record.building:
            await self._run(record.collection.name, record.target, record.building.max_norm)

    async def reindex(self, name: str, target: Collection) -> None:
        """Make the index what the target says, and wait until it answers.

        Raises:
            FailedPrecondition: a vector cannot be compared so, or another index is being built.
        """
        while (record := await self._records.read(name)).collection != target:
            if record.target not in (None, target):
                raise FailedPrecondition(
                    "REINDEX_RUNNING",
                    "Another index is being built: wait until it answers.",
                    field="collection",
                    collection=name,
                )
            await self._run(name, target)

    async def _run(
        self, name: str, target: Collection | None = None, max_norm: float = 0.0
    ) -> None:
        """Wait for the running rebuild, or start one that outlives the caller."""
        if name not in self._running:
            # An empty context: the caller's deadline is not the rebuild's.
            task = asyncio.create_task(
                self._rebuild(name, target, max_norm), context=contextvars.Context()
            )
            self._running[name] = task
            task.add_done_callback(lambda done: self._end(name, done))
        await asyncio.shield(self._running[name])

    def _end(self, name: str, task: asyncio.Task[None]) -> None:
        self._running.pop(name, None)
        if not task.cancelled() and task.exception():
            log.warning("a rebuild failed", extra={"collection": name}, exc_info=task.exception())

    async def _rebuild(self, name: str, target: Collection | None, max_norm: float) -> None:
        record, token = await self._records.read(name), secrets.token_bytes(8)
        lease = self._records.keys(record).lease
        async with asking():
            mine = await self._redis.set(lease, token, nx=True, ex=LEASE_SECONDS)
        if not mine:
            await asyncio.sleep(_PAUSE)
            return
        try:
            # What was begun is ended, whatever it was.
            target = record.target or target
            building = await self._plan(record, target, max_norm)
            started = await self._records.change(record, building=building, target=target)
            if started:
                if record.building:
                    await self._builder.drop(record, record.building)
                await self._builder.start(started, building)
                await self._fill(started)
        except FailedPrecondition:
            await self._give_up(name)
            raise
        finally:
            async with asking():
                if await self._redis.get(lease) == token:
                    await self._redis.delete(lease)

    async def _plan(self, record: Record, target: Collection | None, max_norm: float) -> Index:
        """Return the index to build: its lift is measured, or longer than the one there is."""
        generation = record.newest.generation + 1
        if target is None:
            # At least HEADROOM longer each time, so that rebuilds stay rare.
            longer = max(max_norm, metric_transforms.HEADROOM * record.index.max_norm)
            return Index(generation, longer, record.index.scale)
        norms = [np.zeros(0)]
        async for documents in self._stored(record):
            _check(documents, target)
            norms.append(
                metric_transforms.lengths(np.stack([document.vector for document in documents]))
            )
        if target.lifted == "cosine":
            return Index(generation)
        measured, scale = metric_transforms.measure_lengths(np.concatenate(norms))
        return Index(generation, max(measured, max_norm), scale)

    async def _fill(self, record: Record) -> None:
        """Copy every document to the new index, then let it answer."""
        building = record.newest
        lift = building.lift(record.built.lifted)
        if self._builder.has_form(record):
            async for documents in self._stored(record):
                _check(documents, record.built)
                vectors = np.stack([document.vector for document in documents])
                if metric_transforms.longest(vectors) > lift.max_norm:
                    return  # one came before the writers knew: begun anew, with a longer lift
                while not await self._copy(record, documents, lift.stored(vectors)):
                    record = await self._records.read(record.collection.name)
                    if record.building != building:
                        return
        while not await self._builder.is_complete(record, building):
            await self._renew(record)
            await asyncio.sleep(_PAUSE)
        while record.building == building:
            changes = {"collection": record.built, "index": building}
            if await self._records.change(record, **changes, building=None, target=None):
                await self._builder.drop(record, record.index)
                return
            record = await self._records.read(record.collection.name)

    async def _copy(self, record: Record, documents: Sequence[Document], lifted: Vector) -> bool:
        """Add documents to the new index; return False if the record has changed."""
        async with asking():
            copied = await self._builder.copy(
                keys=self._records.keys(record).script(document.id for document in documents),
                args=self._builder.copied(record, documents, lifted),
            )
        return bool(copied != b"stale")

    async def _give_up(self, name: str) -> None:
        """Take back what cannot be built."""
        record = await self._records.read(name)
        while record.building:
            if await self._records.change(record, building=None, target=None):
                await self._builder.drop(record, record.building)
            record = await self._records.read(name)

    async def _renew(self, record: Record) -> None:
        async with asking():
            await self._redis.expire(self._records.keys(record).lease, LEASE_SECONDS)

    async def _stored(self, record: Record) -> AsyncIterator[list[Document]]:
        after = ""
        while ids := await self._documents.ids(record, after, _BATCH):
            after = ids[-1]
            await self._renew(record)
            documents = [one for one in await self._documents.get(record, ids) if one]
            if documents:
                yield documents


def _fit(vectors: Vector, record: Record) -> bool:
    """Say whether the index being built can hold the vectors. Raises InvalidArgument if never."""
    for vector in vectors:
        check_vector(vector, record.built, "documents.vector")
    return metric_transforms.longest(vectors) <= record.newest.lift(record.built.lifted).max_norm


def _check(documents: Sequence[Document], target: Collection) -> None:
    for document in documents:
        try:
            check_vector(document.vector, target, "vector")
        except InvalidArgument as failure:
            raise FailedPrecondition(
                failure.reason,
                f"A document cannot be indexed so. {failure.message}",
                field="collection",
                id=document.id,
            ) from failure
