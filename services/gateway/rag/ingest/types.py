"""Documents as callers send them, and what is refused of them."""

import re
from dataclasses import dataclass

from services.errors import InvalidArgument
from services.gateway import digests
from services.gateway.backends.types import Value
from services.gateway.rag.ingest.parsers import files

DOCUMENT_BYTES = 32 * 2**20
ID_BYTES = 256
DOCUMENT_FIELD = "memetwin_document"
# Part of every version: documents are taken in again when the way of cutting them changes.
_CUTTING = 3
_COLLECTION = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True)
class Source:
    """A document as a caller sends it; an empty title or media type is the document's own."""

    collection: str
    id: str
    title: str
    media_type: str
    fields: dict[str, Value]
    content: bytes

    def kind(self) -> str:
        """Check the document and return its media type.

        Raises:
            InvalidArgument: a name or the type cannot be taken, or it is too large.
        """
        check_collection(self.collection)
        _require(0 < len(self.id.encode()) <= ID_BYTES, "BAD_ID", "An id has 1 to 256 bytes.", "id")
        _require(
            DOCUMENT_FIELD not in self.fields,
            "RESERVED_FIELD",
            f"{DOCUMENT_FIELD} is a name of ours.",
            "fields",
        )
        _require(
            len(self.content) <= DOCUMENT_BYTES,
            "TOO_LARGE",
            f"Over {DOCUMENT_BYTES // 2**20} MiB; cut it in two.",
            "content",
        )
        return files.media_type(self.media_type, self.id, self.content)

    def version(self) -> str:
        """Return a digest of all that its chunks depend on."""
        content = digests.digest(self.content.hex())
        return digests.digest([_CUTTING, self.title, self.media_type, self.fields, content])[:32]


def check_collection(name: str) -> None:
    """Raise InvalidArgument if a collection of documents cannot be called so."""
    _require(
        bool(_COLLECTION.fullmatch(name)),
        "BAD_COLLECTION_NAME",
        "A collection's name has 1 to 100 letters, digits, '.', '_' or '-'.",
        "collection",
    )


def search_collection(name: str) -> str:
    """Return the search collection that holds the chunks of a collection of documents."""
    return f"documents-{name}"


def _require(condition: bool, reason: str, message: str, field_name: str) -> None:
    if not condition:
        raise InvalidArgument(reason, message, field=field_name)
