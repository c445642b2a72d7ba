from typing import Any

import pytest

from memetwin.search.v1 import search_pb2
from services.errors import Failure, InvalidArgument
from services.search import query_messages
from services.search.filters import (
    MAX_DEPTH,
    ConditionGroup,
    ExistsCondition,
    GeoCondition,
    GeoPoint,
    NumberCondition,
    TagCondition,
    TextCondition,
)
from services.search.query_messages import (
    read_collection_name,
    read_filter,
    read_query,
    write_results,
)
from services.search.types import Hit, Query, Result
from tests.fakes.search import collection, vector

COLLECTION = collection(fields={"n": "number", "t": "tag"})
EXISTS = search_pb2.Filter(exists=search_pb2.ExistsCondition(field="n"))
VECTOR = vector(1, 0).tobytes()


def read(**options: Any) -> Query:
    return read_query(search_pb2.Query(**options), COLLECTION, "queries[0]")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"exists": {"field": "n"}}, ExistsCondition("n")),
        (
            {"number": {"field": "n", "op": "NUMBER_OPERATOR_BETWEEN", "values": [1, 2]}},
            NumberCondition("n", "between", (1.0, 2.0)),
        ),
        ({"tag": {"field": "t", "any_of": ["a", "b"]}}, TagCondition("t", ("a", "b"))),
        ({"text": {"field": "w", "matches": "a b"}}, TextCondition("w", "a b")),
        (
            {"geo": {"field": "g", "centre": {"lat": 1, "lon": 2}, "radius_m": 3}},
            GeoCondition("g", GeoPoint(1, 2), 3.0),
        ),
        (
            {"none_of": {"filters": [{"exists": {"field": "n"}}]}},
            ConditionGroup("none_of", (ExistsCondition("n"),)),
        ),
        ({}, None),
    ],
)
def test_filters_are_read(message: Any, expected: Any) -> None:
    assert read_filter(search_pb2.Filter(**message), "filter") == expected


def test_nested_filters_are_neither_empty_nor_too_deep() -> None:
    empty = search_pb2.Filter(all_of=search_pb2.Filters(filters=[search_pb2.Filter()]))
    deep = EXISTS
    for _ in range(MAX_DEPTH):
        deep = search_pb2.Filter(all_of=search_pb2.Filters(filters=[deep]))
    read_filter(deep, "filter")
    deeper = search_pb2.Filter(all_of=search_pb2.Filters(filters=[deep]))
    unknown = search_pb2.Filter(number=search_pb2.NumberCondition(field="n", op=99))  # type: ignore[arg-type]
    for message, reason in (
        (empty, "EMPTY_FILTER"),
        (deeper, "FILTER_TOO_DEEP"),
        (unknown, "UNKNOWN_OP"),
    ):
        with pytest.raises(Failure) as caught:
            read_filter(message, "filter")
        assert caught.value.reason == reason


def test_a_query_has_defaults() -> None:
    query = read(vector=VECTOR)
    assert query.vector is not None
    assert query.vector.tolist() == [1, 0]
    assert (query.limit, query.offset, query.min_similarity, query.fusion) == (10, 0, None, "")
    assert (query.return_fields, query.group_by, query.group_hits) == (None, "", 1)
    assert read(document_id="d").document_id == "d"
    assert read(everything=search_pb2.Everything()).vector is None


def test_a_hybrid_query_has_defaults_and_accepts_zero() -> None:
    hybrid = {"vector": VECTOR, "text": "cat"}
    query = read(hybrid=hybrid)
    assert (query.text, query.fusion, query.vector_weight) == ("cat", "linear", 0.6)
    assert (query.rrf_constant, query.depth) == (60.0, 100)
    options = {"fusion": search_pb2.FUSION_RRF, "vector_weight": 0.0, "depth": 7}
    query = read(hybrid={**hybrid, **options})
    assert (query.fusion, query.vector_weight, query.depth) == ("rrf", 0.0, 7)


def test_returned_fields_are_read() -> None:
    assert read(vector=VECTOR, return_fields=["n"]).return_fields == frozenset("n")
    assert read(vector=VECTOR, return_no_fields=True).return_fields == frozenset()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "EMPTY_QUERY"),
        ({"text": ""}, "BAD_TEXT"),
        ({"vector": b"abc"}, "WRONG_DIMENSIONS"),
        ({"document_id": ""}, "BAD_ID"),
        ({"vector": VECTOR, "return_fields": ["x"]}, "UNDECLARED_FIELD"),
        ({"vector": VECTOR, "group_by": {"field": ""}}, "BAD_GROUP_FIELD"),
        ({"vector": VECTOR, "filter": {"exists": {"field": "x"}}}, "UNDECLARED_FIELD"),
        ({"hybrid": {"vector": VECTOR, "text": "a", "fusion": 99}}, "UNKNOWN_FUSION"),
    ],
)
def test_invalid_queries_are_refused(options: Any, reason: str) -> None:
    with pytest.raises(Failure) as caught:
        read(**options)
    assert caught.value.reason == reason


def test_the_collection_of_a_query_overrides_that_of_the_request() -> None:
    assert read_collection_name(search_pb2.Query(), "c", "queries[0]") == "c"
    assert read_collection_name(search_pb2.Query(collection="d"), "c", "queries[0]") == "d"
    for message, path in ((search_pb2.Query(), "collection"),):
        with pytest.raises(Failure) as caught:
            read_collection_name(message, "", "queries[0]")
        assert caught.value.field == path


def test_results_are_written() -> None:
    hit = Hit("a", 0.5, 0.5, fields={"n": 1.0, "t": ("x",)}, group="g", vector=b"v", text="t")
    partial = Result([hit], 0.25, "why", ["VSIM"])
    reply = write_results([Query(COLLECTION)] * 2, [partial, Result([])])
    first, second = reply.results
    assert (first.partial, first.partial_reason, first.took) == (True, "why", 0.25)
    assert first.engine == search_pb2.ENGINE_VECTOR_SETS
    [written] = first.hits
    assert (written.id, written.similarity, written.group.string) == ("a", 0.5, "g")
    assert written.fields["t"].strings.values == ["x"]
    assert not second.partial
    assert not second.hits


def test_a_response_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_messages, "MAX_RESPONSE_BYTES", 1_000)
    hits = [Hit(f"d{number}", 1.0, 0.0, payload=b"x" * 300) for number in range(4)]
    query = Query(collection())
    assert len(write_results([query], [Result(hits[:2])]).results[0].hits) == 2
    with pytest.raises(InvalidArgument) as caught:
        write_results([query], [Result(hits)])
    assert caught.value.reason == "RESPONSE_TOO_LARGE"
