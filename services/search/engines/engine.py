"""The interface of an engine: vector sets and the Query Engine implement it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.search.engines.record import Record
from services.search.filters import Condition, Value
from services.search.types import Collection, Document, Query, Result


@dataclass(frozen=True)
class IndexStatus:
    """The state of a collection's index.

    Attributes:
        memory: bytes that the index takes.
        max_norm: largest vector norm that the index can store; 0 for any.
        ready: the index contains every document.
    """

    memory: int
    max_norm: float
    ready: bool = True
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class FieldsWrite:
    """A document as it was read, and all its new fields."""

    document: Document
    fields: dict[str, Value]


class Engine(Protocol):
    """Writes, finds and deletes documents. Callers check all arguments first.

    Every method raises NotFound if the collection does not exist, Unavailable if Redis is
    unreachable, and Overloaded if it has no memory left.
    """

    async def create(self, record: Record) -> None:
        """Create the index of a new collection.

        Raises:
            FailedPrecondition: the server does not support the index.
        """
        ...

    async def drop(self, record: Record) -> None:
        """Remove those parts of a collection that the catalog does not remove."""
        ...

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write all documents or none; return for each whether it is new.

        Raises:
            Aborted: the collection differs from the given one.
        """
        ...

    async def write_fields(self, record: Record, writes: Sequence[FieldsWrite]) -> str:
        """Replace the fields of all documents or of none; return the outcome.

        The outcome is ``updated``; or, if nothing was written, ``stale`` (the record has changed),
        ``changed`` (the fields of a document have changed) or ``missing`` (a document is gone).
        """
        ...

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        ...

    async def matching_ids(self, name: str, condition: Condition | None) -> list[str]:
        """Return the sorted ids of all documents that match a condition."""
        ...

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in order, in one round trip where possible.

        Raises:
            Aborted: a collection differs from the query's.
        """
        ...

    async def add_fields(self, record: Record) -> None:
        """Index the fields that the target declares and the collection does not.

        Raises:
            Aborted: the record has changed.
        """
        ...

    async def reindex(self, name: str, target: Collection) -> None:
        """Build the index of the target, wait until it is complete, and swap it in.

        Raises:
            FailedPrecondition: the target cannot compare a stored vector, the server does not
                support its index, or another reindex is running.
        """
        ...

    async def indexed_count(self, record: Record) -> int:
        """Return how many documents the newest index contains."""
        ...

    async def status(self, record: Record) -> IndexStatus:
        """Return the state of the index that answers."""
        ...

    async def maintain(self, name: str) -> None:
        """Delete expired documents and resume interrupted batches and reindexes."""
        ...
