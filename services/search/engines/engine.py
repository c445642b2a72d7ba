"""What a part of Redis must do to be an engine: vector sets and the Query Engine do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.search.engines.records import Index, Record
from services.search.filters import Condition
from services.search.schema import Collection, Document, Query, Result


@dataclass(frozen=True)
class Size:
    """What a collection takes: ``memory`` in bytes; ``max_norm`` it can hold, 0 for any.

    ``ready`` says that every document can be found.
    """

    memory: int
    max_norm: float
    ready: bool = True
    warnings: Sequence[str] = ()


class Engine(Protocol):
    """Writes, finds and deletes documents. What it is given was checked before.

    All raise NotFound for a collection that is gone, Unavailable and Overloaded as Redis does.
    """

    async def upsert(
        self, collection: Collection, documents: Sequence[Document]
    ) -> tuple[int, int]:
        """Write documents, all or nothing; return how many were new and how many replaced.

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

    async def drop(self, record: Record, index: Index) -> None:
        """Remove an index of a collection, not its documents."""
        ...

    async def size(self, record: Record) -> Size:
        """Return what a collection takes."""
        ...

    async def maintain(self, name: str) -> None:
        """Do what waits to be done: delete what expired, end what was left half done."""
        ...
