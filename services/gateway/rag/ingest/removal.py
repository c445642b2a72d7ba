"""Deletes whole collections of documents, also those of visitors of the page a day after.

The page keeps a visitor's documents in a collection whose name tells the day on which it began:
``visitor-2026-11-28-0123456789abcdef``.
"""

import asyncio
import contextlib
import datetime
import logging
import re
from functools import partial

from services.errors import Failure
from services.gateway.backends.collections import CollectionClient
from services.gateway.rag.ingest.store import DocumentStore, FenceLost
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.rag.ingest.writer import DocumentWriter
from services.gateway.retries import retry
from services.gateway.tenants import Tenants

INTERVAL = 3600.0  # seconds between two checks
_PAGE = 200
_VISITOR = re.compile(r"visitor-(\d{4}-\d\d-\d\d)-[0-9a-f]{16,}")
_DAY = datetime.timedelta(days=1)
log = logging.getLogger(__name__)


class CollectionRemoval:
    """Deletes the documents of a collection, and then its search collection."""

    def __init__(
        self,
        store: DocumentStore,
        writer: DocumentWriter,
        collections: CollectionClient,
        tenants: Tenants,
    ) -> None:
        self._store = store
        self._writer = writer
        self._collections = collections
        self._tenants = tenants

    async def delete(self, name: str) -> int:
        """Delete a collection of the caller; return the number of its documents."""
        return await self._delete(DocumentCollection(name, await self._tenants.current([name])))

    async def watch(self) -> None:
        """Delete the collections of earlier visitors, until cancelled."""
        while True:
            with contextlib.suppress(Failure):  # Redis is unreachable
                await self.sweep(datetime.datetime.now(datetime.UTC).date())
            await asyncio.sleep(INTERVAL)

    async def sweep(self, today: datetime.date) -> int:
        """Delete the visitors' collections that began before yesterday; return their number.

        One that cannot be deleted now is left for the next check.
        """
        deleted = 0
        for collection in await self._store.collections():
            if not is_over(collection.name, today):
                continue
            try:
                count = await self._delete(collection)
            except Failure as failure:
                log.warning("a visitor's documents remain", extra={"reason": failure.reason})
                continue
            log.info("a visitor's documents were deleted", extra={"documents": count})
            deleted += 1
        return deleted

    async def _delete(self, collection: DocumentCollection) -> int:
        count, token = 0, ""
        while True:
            records, token = await self._store.page(collection, _PAGE, token)
            for record in records:
                await retry(partial(self._writer.delete, collection, record["id"]), FenceLost)
            count += len(records)
            if not token:
                break
        described = await self._collections.describe(collection.search_name)
        if described and not described.documents:  # nobody has added a document meanwhile
            await self._collections.delete(described.name)
        return count


def is_over(name: str, today: datetime.date) -> bool:
    """Return whether a collection is a visitor's, and at least a day old in every time zone."""
    found = _VISITOR.fullmatch(name)
    if found is None:
        return False
    try:
        began = datetime.date.fromisoformat(found[1])
    except ValueError:
        return False
    return not today - _DAY <= began <= today + _DAY
