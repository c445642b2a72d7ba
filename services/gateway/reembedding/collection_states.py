"""Finds the search collections of each collection of documents: the current one, and its copies."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.gateway.backends.collections import CollectionInfo
from services.gateway.rag.ingest.types import (
    DocumentCollection,
    collection_of,
    collection_of_copy,
)


@dataclass
class CollectionState:
    """The search collections of a collection of documents.

    Attributes:
        source: the one that questions search; None if only copies exist.
        copies: the others: a copy that is being written, and abandoned ones.
    """

    source: CollectionInfo | None = None
    copies: list[CollectionInfo] = field(default_factory=list)

    def pending(self, digest: str) -> int:
        """Return how many chunks do not belong to ``digest``, or are in old copies."""
        if self.source and self.source.model_digest != digest:
            return self.source.documents
        return sum(one.documents for one in self.copies)

    def most_complete(self, digest: str) -> CollectionInfo:
        """Return the copy that replaces a source that no longer exists.

        A source is deleted only when its copy is complete, so that copy is the largest one, unless
        the one of the model ``digest`` exists.
        """
        return max(self.copies, key=lambda one: (one.model_digest == digest, one.documents))


def collection_states(
    found: Iterable[CollectionInfo], collections: Iterable[DocumentCollection]
) -> dict[DocumentCollection, CollectionState]:
    """Return the state of each collection of documents.

    Args:
        found: all collections of search. Those without a model's digest are left out, because
            others have created them.
        collections: the collections that have a document. Others are left out unless they are
            empty or have a copy, because others may have created them too.
    """
    states: dict[DocumentCollection, CollectionState] = {}
    for one in found:
        if not one.model_digest:
            continue
        sources = set(filter(None, map(collection_of, (one.name, *one.aliases))))
        for source in sources:
            states.setdefault(source, CollectionState()).source = one
        copied = collection_of_copy(one.name)
        if copied and copied not in sources and one.name == copied.copy_name(one.model_digest):
            states.setdefault(copied, CollectionState()).copies.append(one)
    listed = {*collections}
    return {
        collection: state
        for collection, state in sorted(states.items(), key=lambda item: item[0])
        if collection in listed or state.copies or (state.source and not state.source.documents)
    }
