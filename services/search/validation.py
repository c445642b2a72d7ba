"""What one request may hold."""

from collections.abc import Sequence, Sized

from services.errors import InvalidArgument
from services.search.types import (
    DOCUMENTS_LIMIT,
    IDS_LIMIT,
    QUERIES_LIMIT,
    Collection,
    Document,
    check_fields,
    check_id,
)

PAGE_LIMIT = 1000


def check_documents(documents: Sequence[Document], collection: Collection) -> None:
    """Raise InvalidArgument for a batch that cannot be written as a whole."""
    if not documents:
        raise _empty("documents")
    check_size(documents)
    seen: set[str] = set()
    for number, document in enumerate(documents):
        check_document(document, collection, f"documents[{number}]")
        check_new(document.id, seen, f"documents[{number}].id")


def check_size(documents: Sized) -> None:
    """Raise InvalidArgument for too many documents in one message."""
    if len(documents) > DOCUMENTS_LIMIT:
        raise InvalidArgument(
            "TOO_MANY_DOCUMENTS",
            f"A batch has at most {DOCUMENTS_LIMIT} documents.",
            field="documents",
            limit=DOCUMENTS_LIMIT,
        )


def check_document(document: Document, collection: Collection, place: str) -> None:
    """Raise InvalidArgument for a document that a collection cannot hold."""
    check_id(document.id, f"{place}.id")
    check_fields(document.fields, collection, place)
    if not 0 <= document.ttl < 2**31:
        raise InvalidArgument(
            "BAD_TTL", "ttl is a number of seconds, 0 or more.", field=f"{place}.ttl"
        )


def check_new(key: str, seen: set[str], place: str) -> None:
    """Raise InvalidArgument for an id that was seen before in a request; note it."""
    if key in seen:
        raise InvalidArgument("DUPLICATE_ID", "The request has this id twice.", field=place, id=key)
    seen.add(key)


def check_ids(ids: Sequence[str]) -> None:
    """Raise InvalidArgument for no ids, too many, or one that none can have."""
    if not ids:
        raise _empty("ids")
    if len(ids) > IDS_LIMIT:
        raise InvalidArgument(
            "TOO_MANY_IDS", f"A request has at most {IDS_LIMIT} ids.", field="ids", limit=IDS_LIMIT
        )
    for number, key in enumerate(ids):
        check_id(key, f"ids[{number}]")


def check_count(queries: Sequence[object]) -> None:
    """Raise InvalidArgument for a request with no queries, or too many."""
    if not queries:
        raise _empty("queries")
    if len(queries) > QUERIES_LIMIT:
        raise InvalidArgument(
            "TOO_MANY_QUERIES",
            f"A request has at most {QUERIES_LIMIT} queries.",
            field="queries",
            limit=QUERIES_LIMIT,
        )


def page_size(size: int) -> int:
    """Return how many entries a page has. Raises InvalidArgument."""
    if size < 0:
        raise InvalidArgument("BAD_PAGE_SIZE", "page_size is negative.", field="page_size")
    return min(size or 100, PAGE_LIMIT)


def _empty(place: str) -> InvalidArgument:
    return InvalidArgument("EMPTY_BATCH", f"{place} is empty.", field=place)
