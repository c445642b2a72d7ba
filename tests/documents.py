"""Ingests and reads documents through RagService."""

from collections.abc import Iterable, Iterator
from typing import Any

from memetwin.gateway.v1 import rag_pb2

PIECE_BYTES = 1000  # small, so that most documents need several pieces


def ingest(rag: Any, collection: str, documents: Iterable[dict[str, Any]]) -> list[Any]:
    """Ingest documents, given as ``content`` and header fields; return the receipts."""
    return list(rag.IngestDocuments(_parts(collection, documents), timeout=600))


def ingest_one(rag: Any, collection: str, key: str, content: str | bytes, **header: Any) -> Any:
    """Ingest a document; return its receipt."""
    [receipt] = ingest(rag, collection, [{"id": key, "content": content, **header}])
    return receipt


def read(rag: Any, collection: str, key: str) -> Any:
    """Return a stored document with its text."""
    request = rag_pb2.GetDocumentRequest(collection=collection, id=key)
    return rag.GetDocument(request, timeout=60).document


def _parts(
    collection: str, documents: Iterable[dict[str, Any]]
) -> Iterator[rag_pb2.IngestDocumentsRequest]:
    for document in documents:
        given = dict(document)
        content = given.pop("content")
        data = content.encode() if isinstance(content, str) else content
        header = rag_pb2.IngestHeader(collection=collection, **given)
        yield rag_pb2.IngestDocumentsRequest(header=header)
        for first in range(0, len(data), PIECE_BYTES):
            yield rag_pb2.IngestDocumentsRequest(content=data[first : first + PIECE_BYTES])
