"""Keeps a lifted index large enough: measures the first vectors, rebuilds for longer ones.

A rebuild fills a second vector set beside the first, which answers meanwhile; writes go to both; at
the end the record names the second, and the first is dropped. A lease keeps it to one process; the
record's version, which every script checks, stops one that lost its lease. It runs on when the call
that needed it is gone, and one that died is begun anew by ``resume``.
"""

import asyncio
import contextvars
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import numpy as np

from services.search import lifts
from services.search.engines.connection import Client, asking
from services.search.engines.documents import Documents
from services.search.engines.records import Index, Record, Records
from services.search.schema import Document, Vector

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

    async def finish(self, record: Record, index: Index) -> None:
        """Wait until the index can answer."""
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
            metric = record.collection.lifted
            if metric != "cosine" and not record.index.max_norm:
                index = Index(record.index.generation, *lifts.measure(vectors))
                changed = await self._records.change(record, index=index)
            elif lifts.longest(vectors) > record.index.lift(metric).max_norm:
                changed = None
                await self._grow(name, lifts.HEADROOM * lifts.longest(vectors))
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
            await self._grow(record.collection.name, record.building.max_norm)

    async def _grow(self, name: str, max_norm: float) -> None:
        """Wait for the running rebuild, or start one that outlives the caller."""
        if name not in self._running:
            # An empty context: the caller's deadline is not the rebuild's.
            task = asyncio.create_task(self._rebuild(name, max_norm), context=contextvars.Context())
            self._running[name] = task
            task.add_done_callback(lambda done: self._end(name, done))
        await asyncio.shield(self._running[name])

    def _end(self, name: str, task: asyncio.Task[None]) -> None:
        self._running.pop(name, None)
        if not task.cancelled() and task.exception():
            log.warning("a rebuild failed", extra={"collection": name}, exc_info=task.exception())

    async def _rebuild(self, name: str, max_norm: float) -> None:
        record, token = await self._records.read(name), secrets.token_bytes(8)
        lease = self._records.keys(record).lease
        async with asking():
            mine = await self._redis.set(lease, token, nx=True, ex=LEASE_SECONDS)
        if not mine:
            await asyncio.sleep(_PAUSE)
            return
        try:
            # At least HEADROOM longer each time, so that rebuilds stay rare.
            max_norm = max(max_norm, lifts.HEADROOM * record.index.max_norm)
            building = Index(record.newest.generation + 1, max_norm, record.index.scale)
            started = await self._records.change(record, building=building)
            if started:
                if record.building:
                    await self._builder.drop(record, record.building)
                await self._builder.start(started, building)
                await self._fill(started)
        finally:
            async with asking():
                if await self._redis.get(lease) == token:
                    await self._redis.delete(lease)

    async def _fill(self, record: Record) -> None:
        """Copy every document to the new index, then let it answer."""
        keys = self._records.keys(record)
        async for documents in self._stored(record):
            vectors = np.stack([document.vector for document in documents])
            lifted = record.newest.lift(record.collection.lifted).stored(vectors)
            async with asking():
                copied = await self._builder.copy(
                    keys=keys.script(document.id for document in documents),
                    args=self._builder.copied(record, documents, lifted),
                )
            if copied == b"stale":
                return
        await self._builder.finish(record, record.newest)
        if await self._records.change(record, index=record.newest, building=None):
            await self._builder.drop(record, record.index)

    async def _stored(self, record: Record) -> AsyncIterator[list[Document]]:
        after = ""
        while ids := await self._documents.ids(record, after, _BATCH):
            after = ids[-1]
            async with asking():
                await self._redis.expire(self._records.keys(record).lease, LEASE_SECONDS)
            documents = [one for one in await self._documents.get(record, ids) if one]
            if documents:
                yield documents
