"""Prepares a document for writing: its chunks, their ids, and its filterable fields."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway import digests
from services.gateway.backends.types import Document, Value, field_types
from services.gateway.rag.ingest import chunking
from services.gateway.rag.ingest.batched_backends import BatchedBackends, Row
from services.gateway.rag.ingest.chunking import Chunk
from services.gateway.rag.ingest.parsers.extract import Extract
from services.gateway.rag.ingest.types import (
    DOCUMENT_FIELD,
    DocumentCollection,
    Source,
    StoredDocument,
)

_CHUNKS_AT_ONCE = 128


@dataclass(frozen=True)
class PreparedDocument:
    """A parsed and chunked document.

    Attributes:
        stored: the document's record for the store.
        fields: the fields that the collection declares, so that filters can use them.
        chunks: the chunks by id, in order.
        model_digest: the digest of the model whose tokenizer measured the chunks.
        warnings: the parser's warnings, and one for each field that the collection lacks.
    """

    collection: DocumentCollection
    stored: StoredDocument
    fields: dict[str, Value]
    extract: Extract
    chunks: dict[str, Chunk]
    model_digest: str
    warnings: list[str]

    def embedded_text(self, key: str) -> str:
        """Return the text of a chunk to embed."""
        return self.chunks[key].embedded_text(self.extract)

    def search_document(self, key: str, row: Row) -> Document:
        """Return a chunk as a document for search, with its vector, its text and its place."""
        chunk = self.chunks[key]
        place = {
            "document": self.stored.id,
            "title": self.stored.title,
            "version": self.stored.version,
            "start": chunk.span.start,
            "end": chunk.span.end,
            "lead": chunk.offset(),
            "number": chunk.number,
            "section": chunk.section,
            "page": chunk.page,
            "gap": chunk.gap,
        }
        return Document(
            id=key,
            vector=row,
            fields=self.fields | {DOCUMENT_FIELD: self.stored.id},
            text=chunk.indexed_text(self.extract),
            payload=json.dumps(place, ensure_ascii=False).encode(),
        )


def embedded_text(text: str, payload: bytes) -> str:
    """Return the text that the vector of a chunk in search was computed from.

    Args:
        text: the chunk's indexed text.
        payload: the chunk's payload, see ``PreparedDocument.search_document``.
    """
    place = json.loads(payload)
    length = len(chunking.chunk_prefix(chunking.chunk_lead(place["title"], place["section"])))
    first = place["lead"]
    return text[:length] + text[first : first + place["end"] - place["start"]]


async def prepare(
    source: Source, media_type: str, version: str, extract: Extract, backends: BatchedBackends
) -> PreparedDocument:
    """Chunk a parsed document, and declare its fields in its collection."""
    title = source.title or extract.title
    model = await backends.text_model()
    chunks = await _with_ids(source.id, await chunking.split(extract, title, backends), extract)
    fields = extract.fields | source.fields
    declared = await backends.ensure_fields(source.document_collection, model, fields)
    unfilterable = {
        name: f"The field {name!r} is stored. Filters cannot use it: the collection lacks it."
        for name, kind in field_types(extract.fields).items()
        if name not in source.fields and declared.get(name) != kind
    }
    return PreparedDocument(
        source.document_collection,
        StoredDocument(
            *(source.id, title, version, extract.text, len(chunks), media_type, fields),
            source.origin,
        ),
        {name: value for name, value in fields.items() if name not in unfilterable},
        extract,
        chunks,
        model.digest,
        [*extract.warnings, *unfilterable.values()],
    )


async def _with_ids(document: str, chunks: Sequence[Chunk], extract: Extract) -> dict[str, Chunk]:
    """Return chunks by id. An id is a digest of the embedded text, with a number if it repeats.

    So an unchanged chunk keeps its id, and its vector can be reused.
    """
    seen: Counter[str] = Counter()
    by_id = {}
    for number, chunk in enumerate(chunks):
        if number % _CHUNKS_AT_ONCE == 0:
            await asyncio.sleep(0)  # other tasks run
        digest = digests.digest(chunk.embedded_text(extract))[:20]
        repeat = f"-{seen[digest]}" if seen[digest] else ""
        seen[digest] += 1
        by_id[f"{document}#{digest}{repeat}"] = chunk
    return by_id
