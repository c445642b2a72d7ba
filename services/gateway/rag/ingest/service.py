"""Ingests documents (parse, chunk, embed, write), and reads, lists and deletes them.

A chunk's id is a digest of its embedded text, so an unchanged chunk is not embedded again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from weakref import WeakValueDictionary

from services.errors import Aborted, Failure, NotFound, Unavailable
from services.gateway.auth.caller import check_collection
from services.gateway.backends.backends import Backends
from services.gateway.rag.ingest import media_types
from services.gateway.rag.ingest.batched_backends import MAX_CHUNK_TOKENS, BatchedBackends
from services.gateway.rag.ingest.ordered_map import ordered_map
from services.gateway.rag.ingest.parser_pool import ParserPool
from services.gateway.rag.ingest.preparation import prepare
from services.gateway.rag.ingest.store import DocumentStore, FenceLost
from services.gateway.rag.ingest.types import DocumentCollection, Receipt, Source, StoredDocument
from services.gateway.rag.ingest.writer import DocumentWriter
from services.gateway.redis_store import from_record
from services.gateway.retries import retry
from services.gateway.tenants import Tenant, Tenants

# Maximum number of documents that one ingest processes at once. A large one counts as several.
MAX_CONCURRENT_DOCUMENTS = 128
_BYTES_PER_UNIT = 2**19
_log = logging.getLogger(__name__)


class IngestService:
    """Ingests, reads, lists and deletes documents."""

    def __init__(
        self,
        store: DocumentStore,
        backends: Backends,
        parsers: ParserPool,
        tenants: Tenants,
        max_chunk_tokens: int = MAX_CHUNK_TOKENS,
    ) -> None:
        self._max_chunk_tokens = max_chunk_tokens
        self._store = store
        self._backends = backends
        self._parsers = parsers
        self._tenants = tenants
        self._writer = DocumentWriter(store, backends)
        self._locks: WeakValueDictionary[tuple[DocumentCollection, str], asyncio.Lock] = (
            WeakValueDictionary()
        )

    async def ingest(self, sources: AsyncIterator[Source]) -> AsyncIterator[Receipt]:
        """Ingest several documents at once. Yield their receipts in the order of the documents.

        Tenants take turns at what all ingests share; without API keys the ingests take turns.
        """
        tenant = await self._tenants.current()
        caller = tenant.tag or object()
        backends = BatchedBackends(self._backends, caller, self._max_chunk_tokens)
        receipts = ordered_map(
            partial(self._ingest_one, tenant=tenant, backends=backends),
            sources,
            lambda source: 1 + len(source.content) // _BYTES_PER_UNIT,
            MAX_CONCURRENT_DOCUMENTS,
        )
        try:
            async with aclosing(receipts):
                async for receipt in receipts:
                    yield receipt
        finally:
            backends.close()

    async def get(self, collection: str, key: str) -> StoredDocument:
        """Return a document. Raises NotFound."""
        record = await self._store.get(await self._collection(collection), key)
        if record is None:
            raise NotFound(
                "DOCUMENT_NOT_FOUND",
                "The collection has no document with this id.",
                field="id",
                id=key,
            )
        return from_record(StoredDocument, record)

    async def page(
        self, collection: str, size: int, token: str
    ) -> tuple[list[StoredDocument], str]:
        """Return a page of documents by id, without their texts, and the next page's token."""
        owned, tokens = await self._collection(collection), self._tenants.page_tokens
        listed = ("documents", owned.hash_tag)
        after = await tokens.read(listed, token)
        records, last = await self._store.page(owned, size, after)
        next_token = await tokens.write(listed, last)
        return [
            from_record(StoredDocument, {"text": "", **record}) for record in records
        ], next_token

    async def delete(self, collection: str, key: str) -> int:
        """Delete a document and its chunks. Return the number of chunks. Raises NotFound."""
        owned = await self._collection(collection)

        async def delete() -> int:
            document = await self.get(collection, key)
            await self._writer.delete(owned, key)
            return document.chunks

        async with self._lock(owned, key):
            return await retry(delete, FenceLost)

    async def _collection(self, name: str) -> DocumentCollection:
        """Return a collection of the current call's tenant."""
        return DocumentCollection(name, await self._tenants.current([name]))

    def _lock(self, collection: DocumentCollection, key: str) -> asyncio.Lock:
        """Return the document's lock. It makes this process ingest one version at a time."""
        return self._locks.setdefault((collection, key), asyncio.Lock())

    async def _ingest_one(
        self, source: Source, tenant: Tenant, backends: BatchedBackends
    ) -> Receipt:
        """Ingest a document. A failure becomes a receipt, and the old version stays."""
        source = replace(source, tenant=tenant)
        try:
            media_type = source.validated_media_type()
            check_collection(source.collection)
            async with self._lock(source.document_collection, source.id):
                call = partial(self._try_ingest, source, media_type, backends)
                return await retry(call, Aborted, Unavailable)
        except Failure as failure:
            return Receipt(source.id, "failed", failure=failure)
        except Exception:
            _log.exception("the ingest of a document failed")
            unknown = Failure("INTERNAL", "The service failed on the document. Its log shows why.")
            return Receipt(source.id, "failed", failure=unknown)

    async def _try_ingest(
        self, source: Source, media_type: str, backends: BatchedBackends
    ) -> Receipt:
        version = await source.version(await backends.chunk_tokens())
        collection = source.document_collection
        earlier, complete = await self._store.get_with_state(collection, source.id)
        has_origin = earlier and source.origin in ("", earlier.get("origin", ""))
        if earlier and complete and earlier["version"] == version and has_origin:
            return Receipt(source.id, "unchanged", version, earlier["chunks"])
        parsed_type = media_types.with_charset(media_type, source.media_type)
        extract = await self._parsers.parse(backends.caller, parsed_type, source.content)
        document = await prepare(source, media_type, version, extract, backends)
        written = await self._writer.write(document, backends)
        warnings = document.warnings
        if written.unreadable:
            warnings = [
                *warnings,
                f"The text model cannot read {written.unreadable} of {written.embedded} embedded"
                " chunks. Only questions that contain their words find them.",
            ]
        return Receipt(
            source.id,
            "updated" if earlier else "created",
            version,
            chunks=len(document.chunks),
            embedded=written.embedded,
            warnings=warnings,
        )
