"""Dataclasses of ingestion: documents as sent, their receipts, and documents as stored."""

import asyncio
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from services.errors import Failure, InvalidArgument
from services.gateway import digests
from services.gateway.backends.types import Value
from services.gateway.rag.ingest import media_types
from services.gateway.tenants import DEFAULT_TENANT, Tenant, split_collection_name

MAX_DOCUMENT_BYTES = 32 * 2**20
MAX_ID_BYTES = 256
# The field in search that holds the id of a chunk's document.
DOCUMENT_FIELD = "memetwin_document"
# Prefixes of search collections. A copy has the vectors of a later model.
DOCUMENTS_PREFIX, COPY_PREFIX = "documents-", "reembedded-"
_DIGEST_LENGTH = 12
# Part of every version. A new number makes the next ingest chunk unchanged documents again.
_CHUNKING_VERSION = 5
# The maximum of earlier versions, whose documents stay unchanged.
_EARLIER_CHUNK_TOKENS = 256
# A thread hashes larger files, without the interpreter's lock.
_HASHED_AT_ONCE = 2**20
_COLLECTION_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, order=True)
class DocumentCollection:
    """A collection of documents of a tenant."""

    name: str
    tenant: Tenant = DEFAULT_TENANT

    @property
    def search_name(self) -> str:
        """The search collection that holds the chunks, or an alias for it."""
        return self.tenant.collection_name(f"{DOCUMENTS_PREFIX}{self.name}")

    def copy_name(self, digest: str) -> str:
        """Return the search collection that holds the chunks for a later model."""
        return self.tenant.collection_name(f"{COPY_PREFIX}{digest[:_DIGEST_LENGTH]}-{self.name}")

    @property
    def hash_tag(self) -> str:
        """The hash tag of the collection's keys in Redis, which change together."""
        return self.tenant.hash_tag(self.name)


@dataclass(frozen=True)
class Source:
    """A document as a caller sends it.

    If the title or media type is empty, the file determines it. The service adds the tenant.
    ``origin`` names where the document comes from, for example a folder.
    """

    collection: str
    id: str
    title: str
    media_type: str
    fields: dict[str, Value]
    content: bytes
    tenant: Tenant = DEFAULT_TENANT
    origin: str = ""

    @property
    def document_collection(self) -> DocumentCollection:
        """The collection that gets the document."""
        return DocumentCollection(self.collection, self.tenant)

    def validated_media_type(self) -> str:
        """Validate the document and return its media type.

        Raises:
            InvalidArgument: a name or the media type is not valid, or the file is too large.
        """
        check_collection(self.collection)
        _require(
            0 < len(self.id.encode()) <= MAX_ID_BYTES,
            "BAD_ID",
            f"A document id must have 1 to {MAX_ID_BYTES} bytes.",
            "id",
        )
        _require(
            len(self.origin.encode()) <= MAX_ID_BYTES,
            "BAD_SOURCE",
            f"The source of a document must have at most {MAX_ID_BYTES} bytes; shorten it.",
            "source",
        )
        _require(
            DOCUMENT_FIELD not in self.fields,
            "RESERVED_FIELD",
            f"The field name {DOCUMENT_FIELD} is reserved; rename the field.",
            "fields",
        )
        _require(
            len(self.content) <= MAX_DOCUMENT_BYTES,
            "TOO_LARGE",
            f"The document is larger than {MAX_DOCUMENT_BYTES // 2**20} MiB; split it.",
            "content",
        )
        return media_types.media_type(self.media_type, self.id, self.content)

    async def version(self, chunk_tokens: int) -> str:
        """Return a digest of everything that determines the document's chunks.

        ``chunk_tokens`` is the maximum number of tokens of a chunk.
        """
        if len(self.content) > _HASHED_AT_ONCE:
            content = await asyncio.to_thread(hashlib.sha256, self.content)
        else:
            content = hashlib.sha256(self.content)
        parts = [_CHUNKING_VERSION, self.title, self.media_type, self.fields, content.hexdigest()]
        if chunk_tokens != _EARLIER_CHUNK_TOKENS:
            parts.append(chunk_tokens)
        return digests.digest(parts)[:32]


@dataclass(frozen=True)
class Receipt:
    """The outcome of ingesting a document: created, updated, unchanged or failed.

    Attributes:
        chunks: the number of chunks of the document.
        embedded: the number of chunks that this ingest embedded; it reused the other vectors.
        failure: why the document failed.
    """

    id: str
    status: str
    version: str = ""
    chunks: int = 0
    embedded: int = 0
    failure: Failure | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """The reason of a failure, for programs."""
        return self.failure.reason if self.failure else ""

    @property
    def message(self) -> str:
        """The message of a failure, for people."""
        return self.failure.message if self.failure else ""


@dataclass(frozen=True)
class StoredDocument:
    """A document in the store. Citations point into its extracted ``text``."""

    id: str
    title: str
    version: str
    text: str
    chunks: int
    media_type: str
    fields: dict[str, Any] = field(default_factory=dict)
    origin: str = ""


def check_collection(name: str) -> None:
    """Raise InvalidArgument if the name is not valid for a collection of documents."""
    _require(
        bool(_COLLECTION_NAME.fullmatch(name)),
        "BAD_COLLECTION_NAME",
        "A collection name must have 1 to 100 letters, digits, '.', '_' or '-'.",
        "collection",
    )


def collection_of(search_name: str) -> DocumentCollection | None:
    """Return the collection of documents with this ``search_name``, or None."""
    tenant, name = split_collection_name(search_name)
    if not name.startswith(DOCUMENTS_PREFIX):
        return None
    return DocumentCollection(name.removeprefix(DOCUMENTS_PREFIX), tenant)


def collection_of_copy(name: str) -> DocumentCollection | None:
    """Return the collection of documents of a search collection that is a copy, or None."""
    tenant, name = split_collection_name(name)
    if not name.startswith(COPY_PREFIX):
        return None
    return DocumentCollection(name.removeprefix(COPY_PREFIX)[_DIGEST_LENGTH + 1 :], tenant)


def document_of_chunk(chunk_id: str) -> str:
    """Return the id of a chunk's document."""
    return chunk_id.rpartition("#")[0]


def _require(condition: bool, reason: str, message: str, field_name: str) -> None:
    if not condition:
        raise InvalidArgument(reason, message, field=field_name)
