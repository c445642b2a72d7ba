"""Changes of collections and their documents that searches do not notice."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.errors import Aborted, AlreadyExists, NotFound
from services.search.engines.catalog import Record, Records, changing
from services.search.engines.engine import Change, Engine
from services.search.engines.shards import ShardedDocuments
from services.search.filters import Value
from services.search.types import Collection, check_fields

_TRIES = 20
_PAUSE = 0.005
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class FieldsUpdate:
    """Fields of one document to set and to remove."""

    id: str
    fields: dict[str, Value] = field(default_factory=dict)
    remove: Sequence[str] = ()


@dataclass(frozen=True)
class Progress:
    """How many documents of how many the new index has."""

    indexed: int
    total: int


class Changes:
    """Changes fields, settings and indexes."""

    def __init__(
        self, records: Records, documents: ShardedDocuments, engine: Callable[[Collection], Engine]
    ) -> None:
        self._records = records
        self._documents = documents
        self._engine = engine

    async def update(
        self, name: str, added: Mapping[str, str], settings: Mapping[str, Any]
    ) -> None:
        """Declare more fields and change settings (``ef_runtime``, ``model_digest``).

        Raises:
            Aborted: the collection is being changed by others.
            AlreadyExists: a field is declared with another type.
        """
        while True:
            record = await self._records.read(name)
            if record.target or record.building:
                raise changing(name)
            collection = record.collection
            for field_name, kind in added.items():
                if collection.fields.get(field_name, kind) != kind:
                    raise AlreadyExists(
                        "FIELD_EXISTS",
                        "The collection has a field of this name and another type.",
                        field="add_fields",
                        name=field_name,
                    )
            grown = replace(collection, fields={**collection.fields, **added}, **settings)
            grown.check()
            if grown.fields == collection.fields:
                if await self._records.change(record, collection=grown):
                    return
            elif changed := await self._records.change(record, target=grown):
                await self.settle(changed)
                return

    async def settle(self, record: Record) -> None:
        """End the declaration of fields that somebody has begun, if any."""
        target = record.target
        while record.target and record.target == target and not record.building:
            try:
                await self._engine(record.collection).add_fields(record)
                await self._records.change(record, collection=record.target, target=None)
            except Aborted:  # the record has changed meanwhile
                pass
            record = await self._records.read(record.collection.name)

    async def update_fields(self, name: str, updates: Sequence[FieldsUpdate]) -> int:
        """Change fields of documents, all or nothing; return of how many.

        Raises:
            NotFound: there is no such document.
            InvalidArgument: a field is not declared, or a value of another type.
        """
        for number in range(_TRIES):
            record = await self._records.get(name)
            done = await self._engine(record.collection).write_fields(
                record, await self._merged(record, updates)
            )
            if done == "updated":
                return len(updates)
            await self._records.read(name)
            # Writers of one document step out of each other's way.
            await asyncio.sleep(random.uniform(0, number * _PAUSE))  # noqa: S311
        raise changing(name)

    async def _merged(self, record: Record, updates: Sequence[FieldsUpdate]) -> list[Change]:
        documents = await self._documents.get(record, [update.id for update in updates])
        changes = []
        for number, (update, document) in enumerate(zip(updates, documents, strict=True)):
            if document is None:
                raise NotFound(
                    "DOCUMENT_NOT_FOUND",
                    "There is no document of this id; nothing was changed.",
                    field=f"updates[{number}].id",
                    id=update.id,
                )
            check_fields(update.fields, record.collection, f"updates[{number}]")
            kept = {key: old for key, old in document.fields.items() if key not in update.remove}
            changes.append(Change(document, kept | update.fields))
        return changes

    async def reindex(self, name: str, changes: Mapping[str, Any]) -> AsyncIterator[Progress]:
        """Build another index and let it answer; tell now and then how far it is.

        It goes on when nobody listens any more; the same call made again joins it.

        Raises:
            FailedPrecondition: a vector cannot be compared so, the server knows no such index, or
                another one is being built.
        """
        record = await self._records.read(name)
        name, target = record.collection.name, record.collection.reindexed(changes)
        target.check()
        engine = self._engine(target)
        building = asyncio.create_task(engine.reindex(name, target))
        try:
            while not (await asyncio.wait([building], timeout=_PROGRESS_SECONDS))[0]:
                record = await self._records.read(name)
                indexed = await engine.indexed(record) if record.building else 0
                yield Progress(indexed, await self._documents.count(record))
            await building
        finally:
            building.cancel()
