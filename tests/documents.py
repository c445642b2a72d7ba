"""Sends documents, for tests of what becomes of them."""

from collections.abc import Iterable, Iterator
from typing import Any

from memetwin.gateway.v1 import rag_pb2

PIECE = 2**20


def ingest(rag: Any, collection: str, documents: Iterable[dict[str, Any]]) -> list[Any]:
    """The receipts of documents: ``content`` and what their headers say."""
    return list(rag.IngestDocuments(_parts(collection, documents), timeout=600))


def ingest_one(rag: Any, collection: str, key: str, content: str | bytes, **header: Any) -> Any:
    [receipt] = ingest(rag, collection, [{"id": key, "content": content, **header}])
    return receipt


def read(rag: Any, collection: str, key: str) -> Any:
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
        for first in range(0, len(data), PIECE):
            yield rag_pb2.IngestDocumentsRequest(content=data[first : first + PIECE])
