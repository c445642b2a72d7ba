"""Puts hits together by the value of a field, on whatever engine they come from.

First the groups: hits are asked for, ever more of them, until there are as many groups as wanted;
each appears by its best hit. Then what groups lack of their hits is asked for by the value of each.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.search.filters import Condition, Exists, Group, Number, Tag, Value
from services.search.types import HITS_LIMIT, Hit, Query, Result

# So many hits are read for each that is wanted, then ever more.
_AT_FIRST, _WIDER = 4, 4

Ask = Callable[[Sequence[Query]], Awaitable[list[Result]]]


async def grouped(query: Query, ask: Ask) -> Result:
    """Answer a query with ``group_by``; ``ask`` answers those without."""
    wanted = query.offset + query.limit
    wide = _ungrouped(query, Exists(query.group_by))
    wide = replace(wide, offset=0, limit=min(HITS_LIMIT, _AT_FIRST * wanted * query.group_hits))
    while True:
        [result] = await ask([wide])
        groups = _groups(result.hits, query.group_by)
        found_all = len(result.hits) < wide.limit
        if len(groups) >= wanted or found_all or wide.limit == HITS_LIMIT:
            break
        wide = replace(wide, limit=min(HITS_LIMIT, _WIDER * wide.limit))
    page = dict(list(groups.items())[query.offset : wanted])
    if not found_all:
        await _fill(query, page, ask)
        if len(groups) < wanted:
            reason = f"only the nearest {HITS_LIMIT} hits were looked at: there may be more groups"
            result.partial_reason = result.partial_reason or reason
    hits = [
        _member(hit, value, query)
        for value, members in page.items()
        for hit in members[: query.group_hits]
    ]
    return replace(result, hits=hits)


async def _fill(query: Query, page: dict[Value, list[Hit]], ask: Ask) -> None:
    """Ask for the hits that groups lack. Scores of a hybrid query hold within one ranking only."""
    short = [value for value, hits in page.items() if len(hits) < query.group_hits]
    if not short or query.fusion:
        return
    queries = [
        replace(_ungrouped(query, _has(query.group_by, value)), offset=0, limit=query.group_hits)
        for value in short
    ]
    for value, result in zip(short, await ask(queries), strict=True):
        page[value] = result.hits


def _ungrouped(query: Query, condition: Condition) -> Query:
    if query.condition:
        condition = Group("all_of", (condition, query.condition))
    fields = query.return_fields
    return replace(
        query,
        group_by="",
        condition=condition,
        return_fields=None if fields is None else fields | {query.group_by},
    )


def _has(name: str, value: Value) -> Condition:
    return Number(name, "eq", (value,)) if isinstance(value, float) else Tag(name, (str(value),))


def _groups(hits: Sequence[Hit], name: str) -> dict[Value, list[Hit]]:
    groups: dict[Value, list[Hit]] = {}
    for hit in hits:
        value = hit.fields[name]
        for one in dict.fromkeys(value) if isinstance(value, tuple) else (value,):
            groups.setdefault(one, []).append(hit)
    return groups


def _member(hit: Hit, value: Value, query: Query) -> Hit:
    """Return the hit as one of a group, with the fields that were asked for."""
    chosen = query.return_fields
    if chosen is None:
        return replace(hit, group=value)
    fields = {name: one for name, one in hit.fields.items() if name in chosen}
    return replace(hit, group=value, fields=fields)
