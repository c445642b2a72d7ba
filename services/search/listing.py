"""Reads pages of collections and of documents, bounded by count and by bytes."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import Callable, Sequence

from services.errors import InvalidArgument, NotFound, Overloaded
from services.search.engines.aliases import AliasStore
from services.search.engines.catalog import Catalog
from services.search.engines.cursors import CursorStore
from services.search.engines.documents import dump_fields
from services.search.engines.engine import Engine, IndexStatus
from services.search.engines.record import Record
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.filters import Condition, check_filter, holds
from services.search.types import Collection, CollectionInfo, Document
from services.search.validation import page_size

# A page fits into a message of 4 MiB, the default limit of a gRPC client.
MAX_PAGE_BYTES = 3 * 2**20
# Messages of the service can have 64 MiB.
MAX_RESPONSE_BYTES = 60 * 2**20
# Beginnings of the names of collections that memetwin's services create for their own use.
INTERNAL_PREFIXES = (
    ".tune-",
    "cache-",
    "documents-",
    "reembedded-",
    "tenant-",
    "twin-titles-",
    "twins-",
)
# Documents are read in steps, because their sizes are known only when they have been read.
_FIRST_READ, _MAX_READ = 8, 256
_CONCURRENT_STATUSES = 32
MAX_CURSOR_IDS = 5_000
_MORE = "+"  # at the end of a cursor that does not hold all ids
_TOKEN = re.compile("(?:[0-9a-f]{16}[+]?)?/")


class Listing:
    """Lists collections and documents; ``engine_of`` returns the engine of a collection."""

    def __init__(
        self,
        catalog: Catalog,
        aliases: AliasStore,
        documents: ShardedDocumentStore,
        cursors: CursorStore,
        engine_of: Callable[[Collection], Engine],
    ) -> None:
        self._catalog = catalog
        self._aliases = aliases
        self._documents = documents
        self._cursors = cursors
        self._engine_of = engine_of

    async def describe(self, records: Sequence[Record]) -> list[CollectionInfo]:
        """Return collections with their numbers; the server's warnings are not included."""
        aliases = await self._aliases.by_collection()
        sizes = await self._documents.sizes(records)
        statuses: list[IndexStatus] = []
        for first in range(0, len(records), _CONCURRENT_STATUSES):
            statuses += await asyncio.gather(
                *(
                    self._engine_of(record.collection).status(record)
                    for record in records[first : first + _CONCURRENT_STATUSES]
                )
            )
        return [
            CollectionInfo(
                collection=record.collection,
                count=count,
                memory=status.memory + memory,
                max_norm=status.max_norm,
                warnings=status.warnings,
                ready=status.ready,
                aliases=aliases.get(record.collection.name, []),
            )
            for record, (count, memory), status in zip(records, sizes, statuses, strict=True)
        ]

    async def collections(
        self, size: int, token: str, *, include_internal: bool, prefix: str = ""
    ) -> tuple[list[CollectionInfo], str]:
        """Return a page of collections in the order of their names, and the next page's token.

        All names begin with ``prefix``.
        """
        found: list[str] = []
        size, token = page_size(size), max(token, prefix)
        while len(found) <= size:
            names = await self._catalog.list_names(token, size + 1)
            own = [name for name in names if name.startswith(prefix)]
            found += [
                name
                for name in own
                if include_internal or not name.startswith(INTERNAL_PREFIXES, len(prefix))
            ]
            if len(own) <= size:
                break
            token = names[-1]
        records = await self._catalog.read_many(found[:size])
        try:
            infos = await self.describe(records)
        except NotFound:  # one of them is being deleted
            infos = []
            for record in records:
                with contextlib.suppress(NotFound):
                    infos += await self.describe([record])
        return infos, found[size - 1] if len(found) > size else ""

    async def documents(
        self, record: Record, condition: Condition | None, size: int, token: str
    ) -> tuple[list[Document], str]:
        """Return a page of documents in the order of their ids, and the next page's token.

        The first page of a filtered list stores the matching ids, and the token names them.
        """
        size, cursor = page_size(size), ""
        if condition:
            check_filter(condition, record.collection.fields, "filter")
            cursor, ids = await self._matching_ids(record, condition, size, token)
        else:
            ids = await self._documents.list_ids(record, token, size + 1)
        found = await self.read(record, ids[:size], MAX_PAGE_BYTES)
        next_token = ""
        if len(found) < len(ids):
            if condition and not cursor:
                cursor = await self._write_cursor(record, ids[len(found) :])
            last = ids[len(found) - 1]
            next_token = f"{cursor}/{last}" if condition else last
        documents = [one for one in found if one]
        if condition:  # documents may have changed since the first page
            documents = [one for one in documents if holds(condition, one.fields)]
        return documents, next_token

    async def read(
        self, record: Record, ids: Sequence[str], max_bytes: int
    ) -> list[Document | None]:
        """Read the first documents, as many as take ``max_bytes`` and at least one.

        None stands for a document that does not exist.
        """
        found: list[Document | None] = []
        total, step = 0, _FIRST_READ
        while len(found) < len(ids):
            for document in await self._documents.get(record, ids[len(found) :][:step]):
                total += _bytes_of(document) if document else 0
                if found and total > max_bytes:
                    return found
                found.append(document)
            average = max(1, total // len(found))
            step = max(1, min(_MAX_READ, (max_bytes - total) // average))
        return found

    async def _write_cursor(self, record: Record, ids: Sequence[str]) -> str:
        """Store the next ids of a list; return the cursor, which is empty if Redis is full."""
        cursor = secrets.token_hex(8) + (_MORE if len(ids) > MAX_CURSOR_IDS else "")
        try:
            await self._cursors.write(record, cursor, ids[:MAX_CURSOR_IDS])
        except Overloaded:
            return ""
        return cursor

    async def _matching_ids(
        self, record: Record, condition: Condition, size: int, token: str
    ) -> tuple[str, list[str]]:
        """Return the cursor of a filtered list and the ids that follow the token.

        The cursor is empty if the list is new or has expired.
        """
        cursor, _, after = token.partition("/") if _TOKEN.match(token) else ("", "", token)
        ids = await self._cursors.read(record, cursor, after, size + 1) if cursor else None
        if ids is not None and (len(ids) > size or not cursor.endswith(_MORE)):
            return cursor, ids
        engine = self._engine_of(record.collection)
        matching = await engine.matching_ids(record.collection.name, condition)
        return "", [document_id for document_id in matching if document_id > after]


def too_large(path: str) -> InvalidArgument:
    """Return the failure of a call whose response would exceed the limit of messages."""
    return InvalidArgument(
        "RESPONSE_TOO_LARGE",
        f"The response would take more than {MAX_RESPONSE_BYTES >> 20} MiB. Request less per call.",
        field=path,
        limit=MAX_RESPONSE_BYTES,
    )


def _bytes_of(document: Document) -> int:
    """Estimate the bytes of a document in a message."""
    size = document.vector.nbytes + len(document.payload) + len(document.text.encode())
    return size + len(document.id) + len(dump_fields(document.fields))
