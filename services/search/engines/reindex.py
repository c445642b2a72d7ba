"""Builds an index with another metric or type beside the one that answers, then swaps them.

A reindex gives a collection another metric, algorithm or vector type, and it makes room for vectors
with larger norms than a metric transform accepts. The new index fills while the old one answers,
and writes go to both; at the end the record names the new index, and the old one is dropped.

A lease in Redis keeps other processes from building the same index. Every script checks the version
of the record, which stops a process that has lost its lease. A reindex continues when the call that
started it ends, and ``resume`` restarts one whose process died.
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
from services.search.engines import scripts
from services.search.engines.catalog import Catalog
from services.search.engines.connection import Client
from services.search.engines.documents import DocumentStore
from services.search.engines.record import Index, Record
from services.search.engines.redis_errors import redis_errors
from services.search.types import Collection, Document, Vector
from services.search.validation import check_vector

log = logging.getLogger(__name__)

LEASE_SECONDS = 30
# Batches are small, because Redis answers no other client while a script runs.
_COPY_BATCH = 8
_POLL_SECONDS = 0.1


class IndexBuilder(Protocol):
    """The engine's part in a reindex; ``copy`` is the script that fills the new index."""

    copy: Any

    async def create_index(self, record: Record, index: Index) -> None:
        """Create an empty index."""
        ...

    def copy_arguments(
        self, record: Record, documents: Sequence[Document], transformed: Vector
    ) -> list[Any]:
        """Return the arguments of ``copy`` for documents and their transformed vectors."""
        ...

    def needs_copy(self, record: Record) -> bool:
        """Return whether the newest index needs vectors that differ from the documents' vectors."""
        ...

    async def is_complete(self, record: Record, index: Index) -> bool:
        """Return whether the index contains every document."""
        ...

    async def drop_index(self, record: Record, index: Index) -> None:
        """Remove an index."""
        ...


class Reindexer:
    """Replaces the indexes of one engine, on request or when they cannot store a vector."""

    def __init__(
        self, redis: Client, catalog: Catalog, documents: DocumentStore, builder: IndexBuilder
    ) -> None:
        self._redis = redis
        self._catalog = catalog
        self._documents = documents
        self._builder = builder
        self._running: dict[str, asyncio.Task[None]] = {}

    async def prepare_write(
        self, name: str, vectors: Vector, stems: Sequence[Sequence[str]], *, expiring: bool
    ) -> Record:
        """Return a record whose index can store the documents, after a reindex if necessary.

        Args:
            name: the collection.
            vectors: vectors of the documents, float32 [n, dimensions].
            stems: stems of the documents' texts; empty for an engine that ranks texts itself.
            expiring: a document has a TTL.
        """
        while True:
            record = await self._catalog.get(name)
            largest = metric_transforms.largest_norm(vectors)
            is_transformed = record.collection.transformed_metric != "cosine"
            if is_transformed and not record.index.max_norm:
                fitted = metric_transforms.fit(metric_transforms.norms(vectors))
                index = Index(record.index.generation, *fitted)
                updated = await self._catalog.update(record, index=index)
            elif largest > record.transform.max_norm:
                updated = None
                await self._build(name, max_norm=metric_transforms.HEADROOM * largest)
            elif record.target and not _fits_target(vectors, record):
                updated = None
                await self._build(name)
            elif expiring and not record.expiring:
                updated = await self._catalog.update(record, expiring=True)
            elif any(stems) and not record.average_length:
                lengths = [len(one) for one in stems if one]
                average = sum(lengths) / len(lengths)
                updated = await self._catalog.update(record, average_length=average)
            else:
                return record
            if updated is None:
                await self._catalog.read(name)

    async def resume(self, record: Record) -> None:
        """Finish an interrupted reindex."""
        if record.building:
            await self._build(record.collection.name, record.target, record.building.max_norm)

    async def reindex(self, name: str, target: Collection) -> None:
        """Build the index of the target, and wait until it answers.

        Raises:
            FailedPrecondition: the target cannot compare a stored vector, or another reindex is
                running.
        """
        while (record := await self._catalog.read(name)).collection != target:
            if record.target not in (None, target):
                raise FailedPrecondition(
                    "REINDEX_RUNNING",
                    "Another change of the collection is running; wait until it ends.",
                    field="collection",
                    collection=name,
                )
            await self._build(name, target)

    async def _build(
        self, name: str, target: Collection | None = None, max_norm: float = 0.0
    ) -> None:
        """Wait for the running reindex, or start one that outlives the caller."""
        if name not in self._running:
            # The context is empty, because the caller's deadline does not apply to the reindex.
            task = asyncio.create_task(
                self._build_with_lease(name, target, max_norm), context=contextvars.Context()
            )
            self._running[name] = task
            task.add_done_callback(lambda done: self._on_done(name, done))
        await asyncio.shield(self._running[name])

    def _on_done(self, name: str, task: asyncio.Task[None]) -> None:
        self._running.pop(name, None)
        if not task.cancelled() and task.exception():
            log.warning("reindex failed", extra={"collection": name}, exc_info=task.exception())

    async def _build_with_lease(
        self, name: str, target: Collection | None, max_norm: float
    ) -> None:
        record, token = await self._catalog.read(name), secrets.token_bytes(8)
        lease = self._catalog.keys(record).lease
        async with redis_errors():
            acquired = await self._redis.set(lease, token, nx=True, ex=LEASE_SECONDS)
        if not acquired:
            await asyncio.sleep(_POLL_SECONDS)
            return
        try:
            await self._build_index(record, target, max_norm)
        except FailedPrecondition:
            await self._abandon(name)
            raise
        finally:
            async with redis_errors():
                if await self._redis.get(lease) == token:
                    await self._redis.delete(lease)

    async def _build_index(
        self, record: Record, target: Collection | None, max_norm: float
    ) -> None:
        # A change that has begun is finished before the next one starts.
        target = record.target or target
        building = await self._plan_index(record, target, max_norm)
        started = await self._catalog.update(record, building=building, target=target)
        if not started:
            return
        if record.building:
            await self._builder.drop_index(record, record.building)
        await self._builder.create_index(started, building)
        if self._builder.needs_copy(started):
            copied = await self._copy_documents(started, building)
            if copied is None:
                return
            started = copied
        while not await self._builder.is_complete(started, building):
            await self._renew_lease(started)
            await asyncio.sleep(_POLL_SECONDS)
        await self._swap(started, building)

    async def _plan_index(
        self, record: Record, target: Collection | None, max_norm: float
    ) -> Index:
        """Return the index to build, with a transform for the stored and the announced vectors."""
        generation = record.newest_index.generation + 1
        if target is None:
            # The norm grows by at least HEADROOM each time, which keeps reindexes rare.
            larger = max(max_norm, metric_transforms.HEADROOM * record.index.max_norm)
            return Index(generation, larger, record.index.scale)
        norms = [np.zeros(0)]
        async for documents in self._batches(record):
            _check_vectors(documents, target)
            norms.append(
                metric_transforms.norms(np.stack([document.vector for document in documents]))
            )
        if target.transformed_metric == "cosine":
            return Index(generation)
        fitted_norm, scale = metric_transforms.fit(np.concatenate(norms))
        return Index(generation, max(fitted_norm, max_norm), scale)

    async def _copy_documents(self, record: Record, building: Index) -> Record | None:
        """Copy every document to the new index; return the newest record.

        Return None if the reindex must start again: the record names another index, or a writer
        that did not know of this index has stored a vector that is too large for it.
        """
        transform = record.newest_transform
        async for documents in self._batches(record):
            _check_vectors(documents, record.newest_collection)
            vectors = np.stack([document.vector for document in documents])
            if metric_transforms.largest_norm(vectors) > transform.max_norm:
                return None
            while not await self._copy(record, documents, transform.transform(vectors)):
                record = await self._catalog.read(record.collection.name)
                if record.building != building:
                    return None
        return record

    async def _copy(
        self, record: Record, documents: Sequence[Document], transformed: Vector
    ) -> bool:
        """Copy documents to the new index; return False if the record has changed."""
        async with redis_errors():
            outcome = await self._builder.copy(
                keys=self._catalog.keys(record).script_keys(one.id for one in documents),
                args=self._builder.copy_arguments(record, documents, transformed),
            )
        return bool(outcome != scripts.STALE)

    async def _swap(self, record: Record, building: Index) -> None:
        """Let the new index answer, and drop the old one."""
        while record.building == building:
            changes = {"collection": record.newest_collection, "index": building}
            if await self._catalog.update(record, **changes, building=None, target=None):
                await self._builder.drop_index(record, record.index)
                return
            record = await self._catalog.read(record.collection.name)

    async def _abandon(self, name: str) -> None:
        """Drop an index that cannot be completed."""
        record = await self._catalog.read(name)
        while record.building:
            if await self._catalog.update(record, building=None, target=None):
                await self._builder.drop_index(record, record.building)
            record = await self._catalog.read(name)

    async def _renew_lease(self, record: Record) -> None:
        async with redis_errors():
            await self._redis.expire(self._catalog.keys(record).lease, LEASE_SECONDS)

    async def _batches(self, record: Record) -> AsyncIterator[list[Document]]:
        """Yield all documents in the order of their ids, and renew the lease before each batch."""
        after = ""
        while ids := await self._documents.list_ids(record, after, _COPY_BATCH):
            after = ids[-1]
            await self._renew_lease(record)
            documents = [one for one in await self._documents.get(record, ids) if one]
            if documents:
                yield documents


def _fits_target(vectors: Vector, record: Record) -> bool:
    """Return whether the new index can store vectors. Raises InvalidArgument if none can."""
    for vector in vectors:
        check_vector(vector, record.newest_collection, "documents.vector")
    return metric_transforms.largest_norm(vectors) <= record.newest_transform.max_norm


def _check_vectors(documents: Sequence[Document], target: Collection) -> None:
    for document in documents:
        try:
            check_vector(document.vector, target, "vector")
        except InvalidArgument as failure:
            raise FailedPrecondition(
                failure.reason,
                f"The new index cannot store a document. {failure.message}",
                field="collection",
                id=document.id,
            ) from failure
