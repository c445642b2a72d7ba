"""Groups hits by the value of a field, for every engine.

The search requests more and more hits until it has enough distinct values. The best hit of each
group ranks the group. One more search for each incomplete group, filtered by its value, finds the
missing hits.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.search.filters import (
    Condition,
    ConditionGroup,
    ExistsCondition,
    NumberCondition,
    TagCondition,
    Value,
)
from services.search.types import Hit, Query, Result, selected_fields
from services.search.validation import MAX_HITS

# The first search requests this many times as many hits as wanted, each later one this many times
# as many as the one before.
_FIRST_FACTOR, _NEXT_FACTOR = 4, 4

Search = Callable[[Sequence[Query]], Awaitable[list[Result]]]


async def search_groups(query: Query, search: Search) -> Result:
    """Answer a query with ``group_by``; ``search`` answers queries without."""
    wanted = query.page_end
    wide = _without_grouping(query, ExistsCondition(query.group_by))
    limit = min(MAX_HITS, _FIRST_FACTOR * wanted * query.group_hits)
    while True:
        [result] = await search([replace(wide, offset=0, limit=limit)])
        groups = _groups(result.hits, query.group_by)
        found_all = len(result.hits) < limit
        if len(groups) >= wanted or found_all or limit == MAX_HITS:
            break
        limit = min(MAX_HITS, _NEXT_FACTOR * limit)
    page = dict(list(groups.items())[query.offset : wanted])
    if not found_all:
        await _fill_groups(query, page, search)
        if len(groups) < wanted:
            reason = f"only the nearest {MAX_HITS} hits were grouped; there can be more groups"
            result.partial_reason = result.partial_reason or reason
    hits = [
        _member(hit, value, query)
        for value, members in page.items()
        for hit in members[: query.group_hits]
    ]
    return replace(result, hits=hits)


async def _fill_groups(query: Query, page: dict[Value, list[Hit]], search: Search) -> None:
    """Search for the hits that groups lack, unless the query is hybrid.

    Scores of a hybrid query are comparable within one ranking only.
    """
    incomplete = [value for value, hits in page.items() if len(hits) < query.group_hits]
    if not incomplete or query.fusion:
        return
    queries = [
        replace(
            _without_grouping(query, _has_value(query.group_by, value)),
            offset=0,
            limit=query.group_hits,
        )
        for value in incomplete
    ]
    for value, result in zip(incomplete, await search(queries), strict=True):
        page[value] = result.hits


def _without_grouping(query: Query, condition: Condition) -> Query:
    """Return the query with one more condition, and with the field to group by in its hits."""
    if query.condition:
        condition = ConditionGroup("all_of", (condition, query.condition))
    names = query.return_fields
    return replace(
        query,
        group_by="",
        condition=condition,
        return_fields=None if names is None else names | {query.group_by},
    )


def _has_value(field: str, value: Value) -> Condition:
    if isinstance(value, float):
        return NumberCondition(field, "eq", (value,))
    return TagCondition(field, (str(value),))


def _groups(hits: Sequence[Hit], field: str) -> dict[Value, list[Hit]]:
    groups: dict[Value, list[Hit]] = {}
    for hit in hits:
        value = hit.fields[field]
        for one in dict.fromkeys(value) if isinstance(value, tuple) else (value,):
            groups.setdefault(one, []).append(hit)
    return groups


def _member(hit: Hit, value: Value, query: Query) -> Hit:
    """Return the hit as a member of a group, with the fields that the query returns."""
    return replace(hit, group=value, fields=selected_fields(hit.fields, query.return_fields))
