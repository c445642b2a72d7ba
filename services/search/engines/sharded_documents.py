"""Reads documents of all collections, with and without shards."""

from collections.abc import AsyncIterator, Sequence

from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.record import Record
from services.search.engines.shards import scatter, shard_names
from services.search.types import Document


class ShardedDocumentStore:
    """``DocumentStore`` for collections that can have shards."""

    def __init__(self, documents: DocumentStore, catalog: Catalog) -> None:
        self._documents = documents
        self._catalog = catalog

    async def get(self, record: Record, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id; None for each that does not exist."""
        if not record.collection.is_sharded:
            return await self._documents.get(record, ids)

        async def read(shard: str, shard_ids: list[str]) -> list[Document | None]:
            return await self._documents.get(await self._catalog.get(shard), shard_ids)

        return await scatter(record.collection, ids, str, read)

    async def list_ids(self, record: Record, after: str, count: int) -> list[str]:
        """Return up to ``count`` sorted ids that follow ``after``."""
        ids = [
            document_id
            async for shard in self._shards(record)
            for document_id in await self._documents.list_ids(shard, after, count)
        ]
        return sorted(ids, key=str.encode)[:count]

    async def sample_ids(self, record: Record, count: int, seed: int) -> list[str]:
        """Return up to ``count`` random ids."""
        if not record.collection.is_sharded:
            return await self._documents.sample_ids(record, count, seed)
        # The hash distributes documents evenly, so every shard contributes the same number.
        share = -(-count // record.collection.shards)
        ids = [
            document_id
            async for shard in self._shards(record)
            for document_id in await self._documents.sample_ids(shard, share, seed)
        ]
        return ids[:count]

    async def count(self, record: Record) -> int:
        """Return the number of documents that have not expired."""
        return sum([await self._documents.count(shard) async for shard in self._shards(record)])

    async def sizes(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Return the number of documents and their estimated bytes for each collection."""
        parts = [[shard async for shard in self._shards(record)] for record in records]
        found = iter(await self._documents.sizes([shard for shards in parts for shard in shards]))
        sizes = []
        for shards in parts:
            pairs = [next(found) for _ in shards]
            sizes.append((sum(count for count, _ in pairs), sum(size for _, size in pairs)))
        return sizes

    async def _shards(self, record: Record) -> AsyncIterator[Record]:
        if not record.collection.is_sharded:
            yield record
            return
        for shard in shard_names(record.collection):
            yield await self._catalog.get(shard)
