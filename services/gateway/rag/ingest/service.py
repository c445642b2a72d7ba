"""Takes documents in: their text, cut into chunks, embedded, stored with their place in the source.

A chunk's id is a digest of what is embedded, so what has not changed is not embedded again. The
store learns of chunks before search does and of the document at the very end: an ingest that dies
anywhere is done again, and ends as if it never had.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from services.errors import Aborted, Failure, NotFound, Overloaded, Unavailable
from services.gateway import digests as cache_types
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Document, Value, field_types
from services.gateway.rag.ingest import chunking
from services.gateway.rag.ingest.bulk import CHUNKS_A_TRIP, Bulk, Row
from services.gateway.rag.ingest.chunking import Chunk
from services.gateway.rag.ingest.parsers import files
from services.gateway.rag.ingest.parsers.extract import Extract
from services.gateway.rag.ingest.semaphore import WeightedSemaphore
from services.gateway.rag.ingest.store import DocumentStore, FenceLost, Turn
from services.gateway.rag.ingest.types import DOCUMENT_FIELD, Source, search_collection

CHUNKS_AT_ONCE = 512
# A stream's documents in work at once: so many small ones, or as many bytes of large ones.
DOCUMENTS_AT_ONCE = 128
_BYTES_A_PLACE = 2**19
PATIENCE = 30

T = TypeVar("T")


@dataclass(frozen=True)
class Receipt:
    """What became of a document; ``status`` is created, updated, unchanged or failed."""

    id: str
    status: str
    version: str = ""
    chunks: int = 0
    embedded: int = 0
    reason: str = ""
    message: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kept:
    """A document as it is kept: its extracted text, which citations point into."""

    id: str
    title: str
    version: str
    text: str
    chunks: int
    media_type: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Prepared:
    """A document that was read and cut; every chunk has an id."""

    source: Source
    kept: Kept
    fields: dict[str, Value]
    extract: Extract
    chunks: dict[str, Chunk]
    digest: str

    def document(self, key: str, row: Row) -> Document:
        """Return what search keeps of a chunk."""
        chunk = self.chunks[key]
        place = {
            "document": self.kept.id,
            "title": self.kept.title,
            "version": self.kept.version,
            "start": chunk.span.start,
            "end": chunk.span.end,
            "lead": chunk.place(),
            "number": chunk.number,
            "section": chunk.section,
            "page": chunk.page,
            "gap": chunk.gap,
        }
        return Document(
            id=key,
            vector=row,
            fields=self.fields | {DOCUMENT_FIELD: self.kept.id},
            text=chunk.words(self.extract),
            payload=json.dumps(place, ensure_ascii=False).encode(),
        )


class IngestService:
    """Takes documents in and out, and reads them."""

    def __init__(self, store: DocumentStore, backends: Backends) -> None:
        self._store = store
        self._backends = backends
        self._chunks = WeightedSemaphore(CHUNKS_AT_ONCE)
        self._busy: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def take_all(self, sources: AsyncIterator[Source]) -> AsyncIterator[Receipt]:
        """Take documents in, some at once; receipts come in the order of the documents."""
        queue: asyncio.Queue[asyncio.Task[Receipt] | None] = asyncio.Queue()
        places, bulk = WeightedSemaphore(DOCUMENTS_AT_ONCE), Bulk(self._backends)

        async def feed() -> None:
            try:
                async for source in sources:
                    taken = await places.take(1 + len(source.content) // _BYTES_A_PLACE)
                    task = asyncio.create_task(self._take(source, bulk))
                    task.add_done_callback(lambda _, taken=taken: places.give(taken))  # type: ignore[misc]
                    queue.put_nowait(task)
            finally:
                queue.put_nowait(None)

        feeding = asyncio.create_task(feed())
        try:
            while task := await queue.get():
                yield await task
            await feeding
        finally:
            feeding.cancel()
            while not queue.empty():
                if task := queue.get_nowait():
                    task.cancel()
            bulk.close()

    async def _take(self, source: Source, bulk: Bulk) -> Receipt:
        """Take one document in; a failure is a receipt, and the earlier version stands."""
        try:
            async with self._alone(source.collection, source.id):
                return await _patiently(lambda: self._bring(source, bulk), Aborted, Unavailable)
        except Failure as failure:
            return Receipt(source.id, "failed", reason=failure.reason, message=failure.message)

    async def get(self, collection: str, key: str) -> Kept:
        """Read a document. Raises NotFound if it is not there."""
        record = await self._store.document(collection, key)
        if record is None:
            raise NotFound("DOCUMENT_NOT_FOUND", "There is no such document.", field="id", id=key)
        return Kept(**record)

    async def delete(self, collection: str, key: str) -> int:
        """Delete a document and its chunks; return how many those were."""
        async with self._alone(collection, key):
            return await _patiently(lambda: self._delete(collection, key), FenceLost)

    async def page(self, collection: str, size: int, token: str) -> tuple[list[Kept], str]:
        """Return a page of documents in the order of their ids, and the next page's token."""
        records, following = await self._store.documents(collection, size, token)
        return [Kept(**record) for record in records], following

    def _alone(self, collection: str, key: str) -> asyncio.Lock:
        """Return the lock of a document: its versions are taken in one after the other."""
        return self._busy.setdefault((collection, key), asyncio.Lock())

    async def _delete(self, collection: str, key: str) -> int:
        kept = await self.get(collection, key)
        turn = await self._store.begin(collection, key, [])
        await self._backends.search.delete(search_collection(collection), sorted(turn.held))
        await self._store.delete_document(turn)
        return kept.chunks

    async def _bring(self, source: Source, bulk: Bulk) -> Receipt:
        kind, version = source.kind(), source.version()
        earlier, whole = await self._store.state(source.collection, source.id)
        if earlier and whole and earlier["version"] == version:
            return Receipt(source.id, "unchanged", version, earlier["chunks"])
        extract = await asyncio.to_thread(files.read, kind, source.content)
        prepared, warnings = await _prepare(source, kind, extract, bulk)
        embedded = await self._write(prepared, bulk)
        status = "updated" if earlier else "created"
        count = len(prepared.chunks)
        warnings = [*extract.warnings, *warnings]
        return Receipt(source.id, status, version, count, embedded, warnings=warnings)

    async def _write(self, prepared: _Prepared, bulk: Bulk) -> int:
        """Bring search and the store to a document's new state; return how many were embedded."""
        name, key = prepared.source.collection, prepared.source.id
        ids = list(prepared.chunks)
        turn = await self._store.begin(name, key, ids)
        batches = [
            ids[first : first + CHUNKS_A_TRIP] for first in range(0, len(ids), CHUNKS_A_TRIP)
        ]
        embedded = await _all(self._write_some(prepared, some, turn, bulk) for some in batches)
        gone = await self._store.held(turn) - prepared.chunks.keys()
        await self._backends.search.delete(search_collection(name), sorted(gone))
        await self._store.write_document(turn, asdict(prepared.kept), ids)
        return sum(embedded)

    async def _write_some(
        self, prepared: _Prepared, ids: Sequence[str], turn: Turn, bulk: Bulk
    ) -> int:
        """Embed the chunks that search does not hold, write all; return how many were embedded."""
        taken = await self._chunks.take(len(ids))
        try:
            rows = await self._backends.search.vectors(
                search_collection(turn.collection), [key for key in ids if key in turn.held]
            )
            new = [key for key in ids if key not in rows]
            texts = [prepared.chunks[key].text(prepared.extract) for key in new]
            fresh = await _patiently(lambda: bulk.rows(texts), Overloaded, Unavailable)
            if any(digest != prepared.digest for _, digest in fresh):
                raise Unavailable("MODEL_CHANGED", "The embedder has another model now.")
            rows |= {key: row for key, (row, _) in zip(new, fresh, strict=True)}
            documents = [prepared.document(key, rows[key]) for key in ids]
            await bulk.write(turn.collection, documents, prepared.digest)
        finally:
            self._chunks.give(taken)
        return len(new)


async def _prepare(
    source: Source, kind: str, extract: Extract, bulk: Bulk
) -> tuple[_Prepared, list[str]]:
    """Cut a document; return it, and warnings of fields that its collection cannot filter by."""
    title = source.title or extract.title
    model = await bulk.text_model()
    pieces = _named(source.id, await chunking.cut(extract, title, bulk), extract)
    fields = extract.fields | source.fields
    declared = await bulk.declared(source.collection, model, fields)
    unfit = {
        name: f"The field {name!r} is kept, but not to filter by: the collection lacks it."
        for name, type_ in field_types(extract.fields).items()
        if name not in source.fields and declared.get(name) != type_
    }
    filterable = {name: value for name, value in fields.items() if name not in unfit}
    kept = Kept(source.id, title, source.version(), extract.text, len(pieces), kind, fields)
    prepared = _Prepared(source, kept, filterable, extract, pieces, model.digest)
    return prepared, list(unfit.values())


async def _all(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run calls at once; the first failure ends them all and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


async def _patiently(call: Callable[[], Awaitable[T]], *passing: type[Failure]) -> T:
    """Call again after failures that pass: an ingest waits, within its deadline."""
    for _ in range(PATIENCE):
        try:
            return await call()
        except passing as failure:
            await asyncio.sleep(failure.retry_after or 1.0)
    return await call()


def _named(document: str, pieces: Sequence[Chunk], extract: Extract) -> dict[str, Chunk]:
    """Give every chunk an id: a digest of its words, numbered where they come again."""
    seen: Counter[str] = Counter()
    named = {}
    for piece in pieces:
        digest = cache_types.digest(piece.text(extract))[:20]
        again = f"-{seen[digest]}" if seen[digest] else ""
        seen[digest] += 1
        named[f"{document}#{digest}{again}"] = piece
    return named
