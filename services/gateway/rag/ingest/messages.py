"""Translates RagService's messages about documents to dataclasses and back."""

from collections.abc import Sequence

from memetwin.gateway.v1 import rag_pb2
from services.errors import InvalidArgument
from services.gateway.backends import fields
from services.gateway.rag.ingest.types import Receipt, Source, StoredDocument

# The limit of Starlette for a field of a form, so that both APIs accept the same.
MAX_HEADER_BYTES = 2**20


def read_source(header: rag_pb2.IngestHeader, content: bytes) -> Source:
    """Return the document that a header and the content after it describe.

    Raises:
        InvalidArgument: the header is too large.
    """
    if header.ByteSize() > MAX_HEADER_BYTES:
        raise InvalidArgument(
            "TOO_LARGE",
            f"A document's title and fields exceed {MAX_HEADER_BYTES // 2**20} MiB. Shorten them.",
            field="header",
        )
    return Source(
        collection=header.collection,
        id=header.id,
        title=header.title,
        media_type=header.media_type,
        fields={name: fields.from_field(value) for name, value in header.fields.items()},
        content=content,
        origin=header.source,
    )


def write_receipt(value: Receipt) -> rag_pb2.IngestDocumentsResponse:
    """Return a receipt as a message."""
    return rag_pb2.IngestDocumentsResponse(
        id=value.id,
        status=rag_pb2.ReceiptStatus.Value(f"RECEIPT_STATUS_{value.status.upper()}"),
        version=value.version,
        chunks=value.chunks,
        embedded=value.embedded,
        reason=value.reason,
        message=value.message,
        warnings=value.warnings,
    )


def write_document(value: StoredDocument, *, with_text: bool) -> rag_pb2.SourceDocument:
    """Return a document as a message, with its text if ``with_text``."""
    return rag_pb2.SourceDocument(
        id=value.id,
        title=value.title,
        version=value.version,
        text=value.text if with_text else "",
        fields={name: fields.to_field(item) for name, item in value.fields.items()},
        chunks=value.chunks,
        media_type=value.media_type,
        source=value.origin,
    )


def write_page(values: Sequence[StoredDocument], token: str) -> rag_pb2.ListDocumentsResponse:
    """Return a page of documents as a message, without their texts."""
    documents = [write_document(value, with_text=False) for value in values]
    return rag_pb2.ListDocumentsResponse(documents=documents, next_page_token=token)


def write_stored(value: StoredDocument) -> rag_pb2.GetDocumentResponse:
    """Return a document with its text as a message."""
    return rag_pb2.GetDocumentResponse(document=write_document(value, with_text=True))
