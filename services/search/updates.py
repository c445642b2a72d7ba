"""Changes collections and fields of documents while searches and writes continue."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.errors import Aborted, AlreadyExists, NotFound
from services.search.engines.catalog import Catalog, collection_changing
from services.search.engines.engine import Engine, FieldsWrite
from services.search.engines.record import Record
from services.search.engines.sharded_documents import ShardedDocumentStore
from services.search.filters import Value
from services.search.index_defaults import with_index_changes
from services.search.types import Collection
from services.search.validation import check_collection, check_fields

_MAX_ATTEMPTS = 20
_BACKOFF_SECONDS = 0.005
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class FieldsUpdate:
    """The fields of one document to set and to remove."""

    id: str
    fields: dict[str, Value] = field(default_factory=dict)
    remove: Sequence[str] = ()


@dataclass(frozen=True)
class ReindexProgress:
    """The number of documents in the new index, and in the collection."""

    indexed: int
    total: int


class Updates:
    """Updates fields, settings and indexes; ``engine_of`` returns the engine of a collection."""

    def __init__(
        self,
        catalog: Catalog,
        documents: ShardedDocumentStore,
        engine_of: Callable[[Collection], Engine],
    ) -> None:
        self._catalog = catalog
        self._documents = documents
        self._engine_of = engine_of

    async def update_collection(
        self, name: str, added_fields: Mapping[str, str], settings: Mapping[str, Any]
    ) -> None:
        """Declare more fields and change settings (``ef_runtime``, ``model_digest``).

        Raises:
            Aborted: another change of the collection is running.
            AlreadyExists: a field is declared with another type.
        """
        while True:
            record = await self._catalog.read(name)
            if record.target or record.building:
                raise collection_changing(name)
            collection = record.collection
            _check_added_fields(collection, added_fields)
            fields = {**collection.fields, **added_fields}
            target = replace(collection, fields=fields, **settings)
            check_collection(target)
            if fields == collection.fields:
                if await self._catalog.update(record, collection=target):
                    return
            elif updated := await self._catalog.update(record, target=target):
                await self.finish_added_fields(updated)
                return

    async def finish_added_fields(self, record: Record) -> None:
        """Finish a declaration of fields that this or another process has begun."""
        target = record.target
        while record.target and record.target == target and not record.building:
            try:
                await self._engine_of(record.collection).add_fields(record)
                await self._catalog.update(record, collection=record.target, target=None)
            except Aborted:  # the record has changed
                pass
            record = await self._catalog.read(record.collection.name)

    async def update_fields(self, name: str, updates: Sequence[FieldsUpdate]) -> int:
        """Change fields of all documents or of none; return the number of documents.

        Raises:
            NotFound: a document does not exist.
            InvalidArgument: a field is not declared, or a value has another type.
            Aborted: other writers kept changing the documents.
        """
        for attempt in range(_MAX_ATTEMPTS):
            record = await self._catalog.get(name)
            writes = await self._merge(record, updates)
            outcome = await self._engine_of(record.collection).write_fields(record, writes)
            if outcome == "updated":
                return len(updates)
            await self._catalog.read(name)
            # Random delays keep concurrent writers of a document from colliding again.
            await asyncio.sleep(random.uniform(0, attempt * _BACKOFF_SECONDS))  # noqa: S311
        raise collection_changing(name)

    async def _merge(self, record: Record, updates: Sequence[FieldsUpdate]) -> list[FieldsWrite]:
        """Read the documents, and return the fields that they are to have."""
        documents = await self._documents.get(record, [update.id for update in updates])
        writes = []
        for number, (update, document) in enumerate(zip(updates, documents, strict=True)):
            if document is None:
                raise NotFound(
                    "DOCUMENT_NOT_FOUND",
                    "The document does not exist, so no document was updated.",
                    field=f"updates[{number}].id",
                    id=update.id,
                )
            check_fields(update.fields, record.collection, f"updates[{number}]")
            remaining = {
                key: value for key, value in document.fields.items() if key not in update.remove
            }
            writes.append(FieldsWrite(document, remaining | update.fields))
        return writes

    async def reindex(
        self, name: str, changes: Mapping[str, Any]
    ) -> AsyncIterator[ReindexProgress]:
        """Build another index and swap it in; yield the progress twice a second.

        The reindex continues when the caller stops listening; the same call joins it again.

        Raises:
            FailedPrecondition: the target cannot compare a stored vector, the server does not
                support its index, or another reindex is running.
        """
        record = await self._catalog.read(name)
        name, target = record.collection.name, with_index_changes(record.collection, changes)
        check_collection(target)
        engine = self._engine_of(target)
        reindex = asyncio.create_task(engine.reindex(name, target))
        try:
            while not (await asyncio.wait([reindex], timeout=_PROGRESS_SECONDS))[0]:
                record = await self._catalog.read(name)
                indexed = await engine.indexed_count(record) if record.building else 0
                yield ReindexProgress(indexed, await self._documents.count(record))
            await reindex
        finally:
            reindex.cancel()


def _check_added_fields(collection: Collection, added_fields: Mapping[str, str]) -> None:
    for name, field_type in added_fields.items():
        if collection.fields.get(name, field_type) != field_type:
            raise AlreadyExists(
                "FIELD_EXISTS",
                "The collection already declares this field with another type.",
                field="add_fields",
                name=name,
            )
