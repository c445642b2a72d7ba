"""The store of documents without Redis."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.gateway.rag.ingest.store import DocumentStore, FenceLost, FencingLease
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.redis_store import Record

Key = tuple[DocumentCollection, str]


class FakeDocumentStore(DocumentStore):
    """Holds documents in memory."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self.chunk_ids: dict[Key, set[str]] = {}
        self.fences: dict[Key, int] = {}
        self.counter: Counter[DocumentCollection] = Counter()
        self.copies: dict[DocumentCollection, str] = {}
        self.rivals = 0  # how many of the next leases another writer takes over immediately

    async def collections(self) -> list[DocumentCollection]:
        return sorted({collection for collection, _ in self.records}, key=lambda one: one.name)

    async def epochs(self, collections: Sequence[DocumentCollection]) -> list[int]:
        return [self.counter[name] for name in collections]

    def advance_epoch(self, transaction: Any, collection: DocumentCollection) -> None:
        self.counter[collection] += 1

    async def get(self, collection: DocumentCollection, key: str) -> Record | None:
        return self.records.get((collection, key))

    async def get_with_state(
        self, collection: DocumentCollection, key: str
    ) -> tuple[Record | None, bool]:
        return self.records.get((collection, key)), (collection, key) not in self.fences

    async def page(
        self, collection: DocumentCollection, size: int, token: str
    ) -> tuple[list[Record], str]:
        records = [one for (name, _), one in sorted(self.records.items()) if name == collection]
        return records[:size], ""

    async def acquire(
        self, collection: DocumentCollection, key: str, new_chunks: Sequence[str]
    ) -> FencingLease:
        earlier = frozenset(self.chunk_ids.setdefault((collection, key), set()))
        self.chunk_ids[collection, key] |= set(new_chunks)
        self.counter[collection] += 1
        lease = FencingLease(collection, key, self.counter[collection], earlier)
        self.fences[collection, key] = lease.fence
        if self.rivals:
            self.rivals -= 1
            self.fences[collection, key] += 1
        return lease

    async def chunks(self, lease: FencingLease) -> set[str]:
        self._check(lease)
        return set(self.chunk_ids[lease.collection, lease.document])

    async def put(self, lease: FencingLease, record: Record, chunks: Sequence[str]) -> None:
        self._check(lease)
        key = lease.collection, lease.document
        self.records[key], self.chunk_ids[key] = record, set(chunks)
        await self._end(lease)

    async def delete(self, lease: FencingLease) -> None:
        self._check(lease)
        key = lease.collection, lease.document
        del self.records[key], self.chunk_ids[key]
        await self._end(lease)

    async def copy(self, collection: DocumentCollection) -> str:
        return self.copies.get(collection, "")

    async def _end(self, lease: FencingLease) -> None:
        del self.fences[lease.collection, lease.document]
        self.counter[lease.collection] += 1

    def _check(self, lease: FencingLease) -> None:
        if self.fences.get((lease.collection, lease.document)) != lease.fence:
            raise FenceLost("DOCUMENT_CHANGED", "Another writer came later.", retry_after=0.001)
