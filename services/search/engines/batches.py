"""Writes all or none of the documents of a batch, in scripts that block Redis only briefly.

Redis answers no other client while a script runs, so a batch that is too large for one script is
staged first. One command then marks all its documents as pending. From then on, the batch will be
written in small scripts, by another process if this one dies. A pending document is skipped if
another call writes or deletes it first.
"""

import asyncio
import contextlib
import contextvars
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from services.errors import Aborted, Failure, InvalidArgument, Overloaded
from services.search.engines.catalog import Catalog, collection_changing
from services.search.engines.connection import Client
from services.search.engines.documents import dump_fields, expires_at_ms, load_document
from services.search.engines.keys import Keys
from services.search.engines.record import Record
from services.search.engines.redis_errors import redis_errors
from services.search.types import Collection, Document

log = logging.getLogger(__name__)

# A script writes at most this much. An HNSW index takes about 2 ms for each document.
MAX_SCRIPT_DOCUMENTS, MAX_SCRIPT_BYTES = 8, 2**18
# A batch without progress for this many seconds has lost its process.
ABANDONED_SECONDS = 60
_STAGE_BATCH = 64
_MAX_ATTEMPTS = 20


class ScriptWriter(Protocol):
    """The engine's part in a batch."""

    async def prepare(self, collection: Collection, documents: Sequence[Document]) -> Record:
        """Return a record whose index can store the documents.

        Raises:
            Aborted: the collection differs from the given one.
        """
        ...

    async def write_documents(
        self, collection: Collection, documents: Sequence[Document], batch: str
    ) -> list[bool]:
        """Write documents in one script; return for each whether it is new.

        With a ``batch``, only those documents are written that are still pending in it.
        """
        ...


class BatchWriter:
    """Writes the batches of one engine."""

    def __init__(self, redis: Client, catalog: Catalog, writer: ScriptWriter) -> None:
        self._redis = redis
        self._catalog = catalog
        self._writer = writer
        self._running: set[asyncio.Task[set[str]]] = set()

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write all documents or none; return for each whether it is new.

        Raises:
            Aborted: the collection differs from the given one.
        """
        if len(list(split(documents))) == 1:
            return await self._writer.write_documents(collection, documents, "")
        record = await self._writer.prepare(collection, documents)
        batch = secrets.token_hex(8)
        try:
            await self._stage(record, documents, batch)
        except Overloaded:  # free the memory, so that other writes succeed
            await self._discard(record, documents, batch)
            raise
        # The context is empty, because the batch is written even if the caller leaves.
        task = asyncio.create_task(self._apply(record, batch), context=contextvars.Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        created = await asyncio.shield(task)
        return [document.id in created for document in documents]

    async def resume(self, record: Record) -> None:
        """Write the batches whose process has died, and discard those that were only staged."""
        before = time.time() - ABANDONED_SECONDS
        async with redis_errors():
            key = self._catalog.keys(record).batches
            found = await self._redis.zrangebyscore(key, "-inf", before)
        for batch in found:
            try:
                await self._apply(record, batch.decode())
            except Failure:
                log.warning("a batch could not be completed; it is tried again", exc_info=True)

    async def _stage(self, record: Record, documents: Sequence[Document], batch: str) -> None:
        """Store the documents of a batch and mark them as pending."""
        keys = self._catalog.keys(record)
        async with redis_errors():
            await self._redis.zadd(keys.batches, {batch: time.time()})
        for first in range(0, len(documents), _STAGE_BATCH):
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for number, document in enumerate(documents[first : first + _STAGE_BATCH], first):
                    pipe.hset(keys.staged(batch, document.id), mapping=_staged(document))
                    pipe.zadd(keys.batch(batch), {document.id: number})
                await pipe.execute()
        async with redis_errors():
            pending = dict.fromkeys((document.id for document in documents), batch)
            await self._redis.hset(keys.pending, mapping=pending)

    async def _discard(self, record: Record, documents: Sequence[Document], batch: str) -> None:
        """Delete a batch that is not pending."""
        keys = self._catalog.keys(record)
        for first in range(0, len(documents), _STAGE_BATCH):
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for document in documents[first : first + _STAGE_BATCH]:
                    pipe.execute_command("UNLINK", keys.staged(batch, document.id))
                await pipe.execute()
        async with redis_errors():
            await self._redis.unlink(keys.batch(batch))
            await self._redis.zrem(keys.batches, batch)

    async def _apply(self, record: Record, batch: str) -> set[str]:
        """Write the pending documents of a batch, then discard it; return the ids of new ones."""
        keys, created = self._catalog.keys(record), set()
        while documents := await self._read(keys, batch):
            for chunk in split(documents):
                flags = await self._write_chunk(record, chunk, batch)
                created |= {one.id for one, new in zip(chunk, flags, strict=True) if new}
                async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                    for one in chunk:
                        # A pipeline of a cluster has no unlink for one key.
                        pipe.execute_command("UNLINK", keys.staged(batch, one.id))
                        pipe.zrem(keys.batch(batch), one.id)
                    await pipe.execute()
                with contextlib.suppress(Overloaded):  # a full Redis still completes the batch
                    async with redis_errors():
                        await self._redis.zadd(keys.batches, {batch: time.time()})
        async with redis_errors():
            await self._redis.unlink(keys.batch(batch))
            await self._redis.zrem(keys.batches, batch)
        return created

    async def _write_chunk(
        self, record: Record, documents: Sequence[Document], batch: str
    ) -> list[bool]:
        name = record.collection.name
        for _ in range(_MAX_ATTEMPTS):
            try:
                collection = (await self._catalog.get(name)).collection
                return await self._writer.write_documents(collection, documents, batch)
            except Aborted:
                await self._catalog.read(name)
            except InvalidArgument as failure:
                log.warning(
                    "documents of a batch do not fit the changed collection",
                    extra={"collection": name, "reason": failure.reason},
                )
                return [False] * len(documents)
        raise collection_changing(name)

    async def _read(self, keys: Keys, batch: str) -> list[Document]:
        """Read the next staged documents of a batch."""
        while True:
            async with redis_errors():
                found = await self._redis.zrange(keys.batch(batch), 0, MAX_SCRIPT_DOCUMENTS - 1)
            ids = [document_id.decode() for document_id in found]
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for document_id in ids:
                    pipe.hmget(keys.staged(batch, document_id), ["v", "f", "t", "p", "e"])
                rows = await pipe.execute()
            documents = [
                replace(document, ttl=_ttl(row[4]))
                for document_id, row in zip(ids, rows, strict=True)
                if (document := load_document(document_id, row[:4], 0))
            ]
            if documents or not ids:
                return documents
            async with redis_errors():  # another process has written them
                await self._redis.zrem(keys.batch(batch), *ids)


def split(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Yield the documents in order, in groups that one script may write."""
    chunk: list[Document] = []
    size = 0
    for document in documents:
        own = document.vector.nbytes + len(document.text) + len(document.payload)
        if chunk and (len(chunk) == MAX_SCRIPT_DOCUMENTS or size + own > MAX_SCRIPT_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(document)
        size += own
    yield chunk


def _staged(document: Document) -> dict[str, bytes | str | int]:
    return {
        "v": document.vector.tobytes(),
        "f": dump_fields(document.fields),
        "t": document.text,
        "p": document.payload,
        "e": expires_at_ms(document),
    }


def _ttl(expires_at: bytes) -> float:
    """Return the remaining time to live in seconds; 0 for no limit."""
    milliseconds = int(expires_at)
    return max(0.001, milliseconds / 1000 - time.time()) if milliseconds else 0.0
