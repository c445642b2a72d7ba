"""Names the shards of a collection, routes documents to them, and merges their results.

A collection ``c`` of n shards consists of n collections ``c#000``, ``c#001``, …, each in its own
hash slot. The CRC-32 of a document's id selects its shard.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from services.errors import Failure
from services.search.types import Collection, Hit, Query, Result

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def shard_names(collection: Collection) -> list[str]:
    """Return the names of a collection's shards."""
    return [f"{collection.name}#{number:03}" for number in range(collection.shards)]


def shard_of(collection: Collection, document_id: str) -> str:
    """Return the name of the shard that contains a document."""
    return f"{collection.name}#{zlib.crc32(document_id.encode()) % collection.shards:03}"


async def scatter(
    collection: Collection,
    items: Sequence[Item],
    document_id: Callable[[Item], str],
    operation: Callable[[str, list[Item]], Awaitable[Sequence[Outcome]]],
) -> list[Outcome]:
    """Run an operation on each shard with the shard's items, all at once.

    Args:
        collection: the sharded collection.
        items: what to distribute.
        document_id: returns the id that an item belongs to.
        operation: takes the name of a shard and its items; returns an outcome for each item.

    Returns:
        The outcomes in the order of the items.
    """
    positions: dict[str, list[int]] = {}
    for at, item in enumerate(items):
        positions.setdefault(shard_of(collection, document_id(item)), []).append(at)
    outcomes = await asyncio.gather(
        *(operation(shard, [items[at] for at in indices]) for shard, indices in positions.items())
    )
    by_position = {
        at: outcome
        for indices, of_shard in zip(positions.values(), outcomes, strict=True)
        for at, outcome in zip(indices, of_shard, strict=True)
    }
    return [by_position[at] for at in range(len(items))]


def merge(query: Query, answers: Sequence[Result | Failure]) -> Result:
    """Merge the results of all shards into the page of a query.

    A shard that failed makes the result partial.

    Raises:
        Failure: every shard failed.
    """
    results = [answer for answer in answers if isinstance(answer, Result)]
    if not results:
        raise next(answer for answer in answers if isinstance(answer, Failure))
    hits = [hit for result in results for hit in result.hits if hit.id != query.document_id]
    hits.sort(key=_sort_key(query))
    failed = len(answers) - len(results)
    reasons = [f"{failed} of {len(answers)} shards did not answer"] if failed else []
    reasons += dict.fromkeys(one.partial_reason for one in results if one.partial_reason)
    return Result(
        hits[query.offset : query.page_end],
        max(result.took for result in results),
        "; ".join(reasons),
        [line for result in results for line in result.explanation],
    )


def _sort_key(query: Query) -> Callable[[Hit], tuple[float, str]]:
    if query.text:
        return lambda hit: (-hit.score, hit.id)
    if query.vector is None and not query.document_id:
        return lambda hit: (0.0, hit.id)
    return lambda hit: (hit.distance, hit.id)
