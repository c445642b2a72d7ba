"""Writes a prepared document: embeds its new chunks, and updates search and the store.

The store records chunks before search gets them, and it records the document last. So an ingest
that dies at any point can be repeated, with the same result as an ingest that never died.
"""

from collections.abc import Sequence, Set
from dataclasses import asdict
from typing import NamedTuple

from services.errors import Overloaded, Unavailable
from services.gateway.backends.backends import Backends
from services.gateway.rag.ingest.batched_backends import EMBED_BATCH, BatchedBackends
from services.gateway.rag.ingest.fair_semaphore import FairSemaphore
from services.gateway.rag.ingest.preparation import PreparedDocument
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.retries import gather, retry

MAX_CONCURRENT_CHUNKS = 512
# The rest of a large document waits, so that it does not stand in line before other documents.
MAX_CONCURRENT_BATCHES = 8


class Written(NamedTuple):
    """How many chunks were embedded, and how many of these the model does not read."""

    embedded: int
    unreadable: int


class DocumentWriter:
    """Writes and deletes documents. Limits the chunks that all ingests process at once."""

    def __init__(self, store: DocumentStore, backends: Backends) -> None:
        self._store = store
        self._search = backends.search
        self._chunks = FairSemaphore(MAX_CONCURRENT_CHUNKS)

    async def write(self, document: PreparedDocument, backends: BatchedBackends) -> Written:
        """Write a document.

        Raises:
            FenceLost: another writer has acquired the document's lease.
            Unavailable: a service is unreachable, or the embedder has loaded another model.
        """
        ids = list(document.chunks)
        lease = await self._store.acquire(document.collection, document.stored.id, ids)
        # Read before the vectors: if a collection of a later model replaces this one in between,
        # search refuses the vectors under this digest.
        name = document.collection.search_name
        is_current = lease.earlier_chunks and (
            await self._search.model_digest(name) == document.model_digest
        )
        reusable = lease.earlier_chunks if is_current else frozenset()
        batches = [ids[first : first + EMBED_BATCH] for first in range(0, len(ids), EMBED_BATCH)]
        written = await gather(
            (self._write_chunks(document, batch, reusable, backends) for batch in batches),
            MAX_CONCURRENT_BATCHES,
        )
        stale = await self._store.chunks(lease) - document.chunks.keys()
        await self._delete_chunks(document.collection, stale)
        await self._store.put(lease, asdict(document.stored), ids)
        return Written(*map(sum, zip(*written, strict=True))) if written else Written(0, 0)

    async def delete(self, collection: DocumentCollection, key: str) -> None:
        """Delete a document and its chunks. Raises FenceLost."""
        lease = await self._store.acquire(collection, key, [])
        await self._delete_chunks(collection, lease.earlier_chunks)
        await self._store.delete(lease)

    async def _delete_chunks(self, collection: DocumentCollection, ids: Set[str]) -> None:
        """Delete chunks from search, also from the copy that a re-embedding is writing."""
        if ids:
            names = [collection.search_name, await self._store.copy(collection)]
            for name in filter(None, names):
                await self._search.delete(name, sorted(ids))

    async def _write_chunks(
        self,
        document: PreparedDocument,
        ids: Sequence[str],
        reusable: Set[str],
        backends: BatchedBackends,
    ) -> Written:
        """Write chunks to search. Reuse the vectors that it has of the ``reusable`` ones."""
        async with self._chunks.hold(len(ids), backends.caller):
            rows = await self._search.vectors(
                document.collection.search_name,
                [key for key in ids if key in reusable],
            )
            new = [key for key in ids if key not in rows]
            texts = [document.embedded_text(key) for key in new]
            embedded = await retry(lambda: backends.embed(texts), Overloaded, Unavailable)
            if any(one.digest != document.model_digest for one in embedded):
                raise Unavailable(
                    "MODEL_CHANGED",
                    "The embedder loaded another model during the ingest. Retry the document.",
                )
            rows |= {key: one.row for key, one in zip(new, embedded, strict=True)}
            await backends.upsert(
                document.collection,
                [document.search_document(key, rows[key]) for key in ids],
                document.model_digest,
            )
        return Written(len(new), sum(not one.readable for one in embedded))
