"""Takes documents in: text, cut into passages, embedded, stored with their place in the source."""

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from services.errors import Failure, InvalidArgument, NotFound
from services.gateway import clients, entries
from services.gateway.clients import Document, Neighbours, Value
from services.gateway.ledger import Ledger
from services.gateway.passages import Span, passages

DOCUMENT_BYTES = 16 * 2**20
ID_BYTES = 256
BATCH = 64
MEDIA_TYPES = ("text/plain", "text/markdown")
DOCUMENT_FIELD = "memetwin_document"
# Part of every version: documents are taken in again when the way of cutting them changes.
_CUTTING = 1
_COLLECTION = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True)
class Source:
    """A document as a caller sends it."""

    collection: str
    id: str
    title: str
    media_type: str
    fields: dict[str, Value]
    content: bytes

    def text(self) -> str:
        """Check the document and return its text.

        Raises:
            InvalidArgument: a name, the type or the content cannot be taken.
        """
        check_collection(self.collection)
        _require(0 < len(self.id.encode()) <= ID_BYTES, "BAD_ID", "An id has 1 to 256 bytes.", "id")
        _require(
            self.media_type in MEDIA_TYPES,
            "UNKNOWN_MEDIA_TYPE",
            f"media_type is one of {', '.join(MEDIA_TYPES)}.",
            "media_type",
        )
        _require(
            DOCUMENT_FIELD not in self.fields,
            "RESERVED_FIELD",
            f"{DOCUMENT_FIELD} is a name of ours.",
            "fields",
        )
        _require(len(self.content) <= DOCUMENT_BYTES, "TOO_LARGE", "Over 16 MiB.", "content")
        try:
            text = self.content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise InvalidArgument("NOT_UTF8", "The text is not UTF-8.", field="content") from error
        _require(bool(text.strip()), "EMPTY_DOCUMENT", "The document has no text.", "content")
        return text

    def version(self) -> str:
        """Return a digest of all that its passages depend on."""
        parts = [_CUTTING, self.title, self.media_type, self.fields, self.content.hex()]
        return entries.digest(parts)[:32]


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


class Ingest:
    """Takes documents in and out, and reads them."""

    def __init__(self, ledger: Ledger, neighbours: Neighbours) -> None:
        self._ledger = ledger
        self._neighbours = neighbours

    async def take(self, source: Source) -> Receipt:
        """Take one document in; a failure is a receipt, and the earlier version stands."""
        try:
            return await self._take(source)
        except Failure as failure:
            return Receipt(source.id, "failed", reason=failure.reason, message=failure.message)

    async def get(self, collection: str, key: str) -> Kept:
        """Read a document. Raises NotFound if it is not there."""
        record = await self._ledger.document(collection, key)
        if record is None:
            raise NotFound("DOCUMENT_NOT_FOUND", "There is no such document.", field="id", id=key)
        return Kept(**record)

    async def delete(self, collection: str, key: str) -> int:
        """Delete a document and its passages; return how many those were."""
        kept = await self.get(collection, key)
        await self._ledger.delete_document(collection, key)
        await self._neighbours.search.delete(
            search_collection(collection), [chunk_id(key, n) for n in range(kept.chunks)]
        )
        await self._ledger.bump(collection)
        return kept.chunks

    async def page(self, collection: str, size: int, token: str) -> tuple[list[Kept], str]:
        """Return a page of documents in the order of their ids, and the next page's token."""
        records, following = await self._ledger.documents(collection, size, token)
        return [Kept(**record) for record in records], following

    async def _take(self, source: Source) -> Receipt:
        text, version = source.text(), source.version()
        earlier = await self._ledger.document(source.collection, source.id)
        if earlier and earlier["version"] == version:
            return Receipt(source.id, "unchanged", version, earlier["chunks"])
        spans = passages(text)
        # Answers given from here on are not kept past the end of this change.
        await self._ledger.bump(source.collection)
        await self._store(source, text, version, spans)
        gone = range(len(spans), earlier["chunks"] if earlier else 0)
        await self._neighbours.search.delete(
            search_collection(source.collection), [chunk_id(source.id, n) for n in gone]
        )
        kept = Kept(
            source.id, source.title, version, text, len(spans), source.media_type, source.fields
        )
        await self._ledger.write_document(source.collection, source.id, asdict(kept))
        status = "updated" if earlier else "created"
        return Receipt(source.id, status, version, len(spans), embedded=len(spans))

    async def _store(self, source: Source, text: str, version: str, spans: list[Span]) -> None:
        collection = search_collection(source.collection)
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            vectors = await self._neighbours.embedder.passages(
                [_with_title(source.title, span.of(text)) for span in batch], bulk=True
            )
            if first == 0:
                types = clients.field_types(source.fields) | {DOCUMENT_FIELD: "tag"}
                await self._neighbours.search.ensure(collection, vectors, types, index_text=True)
            documents = [
                Document(
                    id=chunk_id(source.id, first + number),
                    vector=row,
                    fields=source.fields | {DOCUMENT_FIELD: source.id},
                    text=span.of(text),
                    payload=_place(source, version, span),
                )
                for number, (span, row) in enumerate(zip(batch, vectors.rows, strict=True))
            ]
            await self._neighbours.search.upsert(collection, documents, vectors.digest)


def check_collection(name: str) -> None:
    """Raise InvalidArgument if a collection of documents cannot be called so."""
    _require(
        bool(_COLLECTION.fullmatch(name)),
        "BAD_COLLECTION_NAME",
        "A collection's name has 1 to 100 letters, digits, '.', '_' or '-'.",
        "collection",
    )


def search_collection(name: str) -> str:
    """Return the search collection that holds the passages of a collection of documents."""
    return f"documents-{name}"


def chunk_id(document: str, number: int) -> str:
    """Return the id of a document's passage."""
    return f"{document}#{number}"


def _with_title(title: str, text: str) -> str:
    return f"{title}\n{text}" if title else text


def _place(source: Source, version: str, span: Span) -> bytes:
    place = {
        "document": source.id,
        "title": source.title,
        "version": version,
        "start": span.start,
        "end": span.end,
    }
    return json.dumps(place, ensure_ascii=False).encode()


def _require(condition: bool, reason: str, message: str, field_name: str) -> None:
    if not condition:
        raise InvalidArgument(reason, message, field=field_name)
