from typing import Any

import numpy as np
import pytest

from services.search import grouping
from services.search.grouping import search_groups
from services.search.types import Document, Query
from tests.fakes.search import ListSearch, collection, document, vector

COLLECTION = collection(fields={"kind": "tag", "year": "number"})


def at(degrees: float, key: str, **fields: Any) -> Document:
    angle = np.radians(degrees)
    return document(key, float(np.cos(angle)), float(np.sin(angle)), fields=fields)


def query(**options: Any) -> Query:
    return Query(COLLECTION, vector=vector(1, 0), **options)


DOCUMENTS = [
    at(1, "a1", kind="a", year=1.0),
    at(2, "a2", kind="a", year=2.0),
    at(3, "ab", kind=("a", "b"), year=1.0),
    at(4, "none"),
    at(5, "c1", kind="c", year=3.0),
    at(6, "b2", kind="b", year=1.0),
]


async def found(options: Any, documents: Any = None) -> list[tuple[Any, str]]:
    search = ListSearch(documents or DOCUMENTS)
    result = await search_groups(query(**options), search.search)
    return [(hit.group, hit.id) for hit in result.hits]


async def test_groups_are_ordered_by_their_best_hit() -> None:
    assert await found({"group_by": "kind"}) == [("a", "a1"), ("b", "ab"), ("c", "c1")]
    assert await found({"group_by": "year"}) == [(1.0, "a1"), (2.0, "a2"), (3.0, "c1")]


async def test_groups_have_up_to_as_many_hits_as_requested() -> None:
    assert await found({"group_by": "kind", "group_hits": 2}) == [
        *(("a", "a1"), ("a", "a2"), ("b", "ab"), ("b", "b2"), ("c", "c1"))
    ]


async def test_limit_and_offset_count_groups() -> None:
    assert await found({"group_by": "kind", "limit": 1, "offset": 1}) == [("b", "ab")]


async def test_hits_return_the_requested_fields_only() -> None:
    search = ListSearch(DOCUMENTS)
    bare = await search_groups(query(group_by="kind", return_fields=frozenset()), search.search)
    assert [hit.fields for hit in bare.hits] == [{}, {}, {}]
    full = await search_groups(query(group_by="kind"), search.search)
    assert full.hits[0].fields == {"kind": "a", "year": 1.0}


async def test_the_search_widens_until_there_are_enough_groups_and_then_fills_them() -> None:
    near = [at(number * 0.01, f"a{number:02}", kind="a") for number in range(30)]
    far = [at(10 + number, f"b{number}", kind="b") for number in range(3)]
    search = ListSearch([*near, *far])
    result = await search_groups(query(group_by="kind", limit=2, group_hits=2), search.search)
    assert [(hit.group, hit.id) for hit in result.hits] == [
        *(("a", "a00"), ("a", "a01"), ("b", "b0"), ("b", "b1"))
    ]
    assert [one.limit for one in search.queries] == [16, 64]


async def test_a_group_that_lacks_hits_is_filled_by_its_value() -> None:
    documents = [at(1, "b0", kind="b"), *(at(2, f"a{n}", kind="a") for n in range(9))]
    documents.append(at(50, "b1", kind="b"))
    search = ListSearch(documents)
    result = await search_groups(query(group_by="kind", limit=1, group_hits=2), search.search)
    assert [hit.id for hit in result.hits] == ["b0", "b1"]
    assert [one.limit for one in search.queries] == [8, 2]


async def test_a_result_says_that_there_can_be_more_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grouping, "MAX_HITS", 4)
    result = await search_groups(query(group_by="kind"), ListSearch(DOCUMENTS).search)
    assert [hit.group for hit in result.hits] == ["a", "b", "c"]
    assert result.partial_reason == "only the nearest 4 hits were grouped; there can be more groups"
