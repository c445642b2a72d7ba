"""The common parts of the engines that have one index for each collection."""

from collections.abc import Sequence
from typing import Protocol

from services.search.engines.batches import BatchWriter
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.engine import FieldsWrite
from services.search.engines.reanalysis import Reanalyser
from services.search.engines.record import Record
from services.search.engines.reindex import Reindexer
from services.search.filters import Condition
from services.search.types import Collection, Document, Query, Result


class IndexSearch(Protocol):
    """Searches the indexes of one engine."""

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in order."""
        ...

    async def matching_ids(self, name: str, condition: Condition | None) -> list[str]:
        """Return the sorted ids of all documents that match a condition."""
        ...


class IndexEngine:
    """Implements those methods of ``Engine`` that do not depend on the kind of index."""

    def __init__(
        self,
        catalog: Catalog,
        documents: DocumentStore,
        reindexer: Reindexer,
        index_search: IndexSearch,
        batches: BatchWriter,
    ) -> None:
        self._catalog = catalog
        self._documents = documents
        self._reindexer = reindexer
        self._index_search = index_search
        self._batches = batches
        self._reanalyser = Reanalyser(catalog, documents, self.write_fields)

    async def write_fields(self, record: Record, writes: Sequence[FieldsWrite]) -> str:
        """Replace the fields of all documents or of none; return the outcome."""
        raise NotImplementedError

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write all documents or none; return for each whether it is new."""
        return await self._batches.upsert(collection, documents)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        return await self._documents.delete(name, ids)

    async def matching_ids(self, name: str, condition: Condition | None) -> list[str]:
        """Return the sorted ids of all documents that match a condition."""
        return await self._index_search.matching_ids(name, condition)

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in order."""
        return await self._index_search.search(queries)

    async def reindex(self, name: str, target: Collection) -> None:
        """Build the index of the target and swap it in."""
        await self._reindexer.reindex(name, target)

    async def maintain(self, name: str) -> None:
        """Delete expired documents, resume interrupted changes, and analyse texts anew."""
        record = await self._catalog.read(name)
        await self._documents.delete_expired(record)  # first, because it frees memory
        await self._batches.resume(record)
        await self._reindexer.resume(record)
        await self._reanalyser.run(await self._catalog.read(name))
