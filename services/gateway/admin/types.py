"""The plain data of administration."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DeletedData:
    """How much of a tenant's data was deleted, or would be."""

    cache_entries: int = 0
    documents: int = 0
    twins: int = 0
    collections: int = 0
    other_keys: int = 0
