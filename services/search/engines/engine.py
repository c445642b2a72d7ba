"""What a part of Redis must do to be an engine: vector sets and the Query Engine do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.search.engines.catalog import Record
from services.search.filters import Condition, Value
from services.search.types import Collection, Document, Query, Result


@dataclass(frozen=True)
class Size:
    """What a collection takes: ``memory`` in bytes; ``max_norm`` it can hold, 0 for any.

    ``ready`` says that every document can be found.
    """

    memory: int
    max_norm: float
    ready: bool = True
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Change:
    """A document as it was read, and the fields that it is to have."""

    document: Document
    fields: dict[str, Value]


class Engine(Protocol):
    """Writes, finds and deletes documents. What it is given was checked before.

    All raise NotFound for a collection that is gone, Unavailable and Overloaded as Redis does.
    """

    async def dismantle(self, record: Record) -> None:
        """Remove what ``prepare`` has made and the record does not name, before that goes."""
        ...

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write documents, all or nothing; return for each whether it is new.

        Raises:
            Aborted: the collection is no longer as given.
        """
        ...

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        ...

    async def matching(self, name: str, condition: Condition | None) -> list[str]:
        """Return the ids of all documents that meet a condition, in their order."""
        ...

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries, in order, in one trip where that can be.

        Raises:
            Aborted: a collection is no longer as the query has it.
        """
        ...

    async def prepare(self, record: Record) -> None:
        """Make what a new collection needs.

        Raises:
            FailedPrecondition: the server knows no such index.
        """
        ...

    async def add_fields(self, record: Record) -> None:
        """Make a collection ready for the fields that its target has more.

        Raises:
            Aborted: the record has changed.
        """
        ...

    async def reindex(self, name: str, target: Collection) -> None:
        """Build another index and let it answer, once it is complete.

        Raises:
            FailedPrecondition: a vector cannot be compared so, the server knows no such index, or
                another one is being built.
        """
        ...

    async def indexed(self, record: Record) -> int:
        """Return how many documents the newest index holds."""
        ...

    async def write_fields(self, record: Record, changes: Sequence[Change]) -> str:
        """Change the fields of documents, all or nothing; return what became of it.

        ``updated``; or, nothing being done, ``stale`` if the record has changed, ``changed`` if a
        document has, ``missing`` if one is gone.
        """
        ...

    async def size(self, record: Record) -> Size:
        """Return what a collection takes."""
        ...

    async def maintain(self, name: str) -> None:
        """Do what waits to be done: delete what expired, end what was left half done."""
        ...
