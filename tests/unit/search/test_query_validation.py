from typing import Any

import pytest

from services.errors import Failure
from services.search.query_validation import MAX_REQUEST_HITS, check_queries, check_query
from services.search.types import Query
from tests.fakes.search import collection, vector

COLLECTION = collection(fields={"kind": "tag", "year": "number", "story": "text"})
HYBRID: dict[str, Any] = {"vector": vector(1, 0), "text": "a", "fusion": "rrf"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"limit": 10_000, "offset": 10_000, "ef": 100_000},
        {"min_similarity": -1.0},
        {"text": "x" * 10_000},
        {**HYBRID, "min_similarity": 0.5, "vector_weight": 0.0, "depth": 10_000},
        {"group_by": "kind", "group_hits": 1000, "limit": 10},
        {"group_by": "year"},
    ],
)
def test_valid_queries_pass(options: Any) -> None:
    check_query(Query(COLLECTION, **options), "queries[0]")


@pytest.mark.parametrize(
    ("options", "reason", "path"),
    [
        ({"limit": 0}, "OUT_OF_RANGE", "limit"),
        ({"limit": 10_001}, "OUT_OF_RANGE", "limit"),
        ({"offset": -1}, "OUT_OF_RANGE", "offset"),
        ({"ef": 100_001}, "OUT_OF_RANGE", "ef"),
        ({"min_similarity": float("nan")}, "NOT_FINITE", "min_similarity"),
        ({"text": " "}, "BAD_TEXT", "text"),
        ({"text": "x" * 10_001}, "BAD_TEXT", "text"),
        ({"text": "x", "min_similarity": 0.5}, "NO_SIMILARITY", "min_similarity"),
        ({**HYBRID, "vector_weight": 1.1}, "OUT_OF_RANGE", "hybrid.vector_weight"),
        ({**HYBRID, "rrf_constant": 0.0}, "OUT_OF_RANGE", "hybrid.rrf_constant"),
        ({**HYBRID, "rrf_constant": float("nan")}, "OUT_OF_RANGE", "hybrid.rrf_constant"),
        ({**HYBRID, "depth": 0}, "OUT_OF_RANGE", "hybrid.depth"),
        ({"group_by": "story"}, "BAD_GROUP_FIELD", "group_by.field"),
        ({"group_by": "missing"}, "BAD_GROUP_FIELD", "group_by.field"),
        ({"group_by": "kind", "group_hits": 1001}, "OUT_OF_RANGE", "group_by.hits"),
    ],
)
def test_invalid_queries_are_refused_with_their_path(options: Any, reason: str, path: str) -> None:
    with pytest.raises(Failure) as caught:
        check_query(Query(COLLECTION, **options), "queries[3]")
    assert (caught.value.reason, caught.value.field) == (reason, f"queries[3].{path}")


def test_a_collection_without_text_index_refuses_text_queries() -> None:
    with pytest.raises(Failure) as caught:
        check_query(Query(collection(index_text=False), text="a"), "queries[0]")
    assert caught.value.reason == "TEXT_NOT_INDEXED"


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"limit": 10_000}, 10),
        ({"limit": 5_000, "offset": 5_000}, 10),
        ({"group_by": "kind", "group_hits": 1_000, "limit": 10}, 10),
        ({**HYBRID, "depth": 10_000}, 5),
    ],
)
def test_the_hits_of_a_request_are_bounded(options: Any, count: int) -> None:
    query = Query(COLLECTION, **options)
    check_queries([query] * count)
    with pytest.raises(Failure, match=f"{MAX_REQUEST_HITS:,}") as caught:
        check_queries([query] * (count + 1))
    assert caught.value.reason == "TOO_MANY_HITS"
