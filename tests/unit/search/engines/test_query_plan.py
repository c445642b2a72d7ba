from typing import Any

import numpy as np
import pytest

from services.search.engines.documents import dump_fields
from services.search.engines.query_plan import MAX_SCANNED_DOCUMENTS, QueryPlan
from services.search.engines.record import Index, Record
from services.search.filters import ExistsCondition, NumberCondition, Value
from services.search.types import Query
from tests.fakes.search import collection, vector

CONDITION = ExistsCondition("n")


def plan(options: dict[str, Any] | None = None, **query: Any) -> QueryPlan:
    one = collection(fields={"n": "number"}, **(options or {}))
    record = Record(one, index=Index(1, 2.0, 1.0))
    asked = Query(one, **{"vector": vector(1, 0), "limit": 3, **query})
    return QueryPlan(asked, record, record.transform, "", asked.vector)


def prepared(options: dict[str, Any] | None = None, documents: int = 0, **query: Any) -> QueryPlan:
    one = plan(options, **query)
    one.prepare(documents)
    return one


def test_a_vector_query_fetches_one_page() -> None:
    one = prepared(offset=2)
    assert (one.count, one.ef, one.full_scan, one.rescore) == (5, 200, False, False)
    assert one.requested == 5
    assert prepared(ef=7, limit=9).ef == 9
    assert prepared(document_id="d").count == 4


def test_imprecise_scores_are_computed_again_from_more_candidates() -> None:
    assert prepared({"metric": "l2"}).count == 3 + 10
    assert prepared({"quantization": "q8"}).count == 4 * 3 + 10
    assert prepared({"reduced_dimensions": 1}).count == 4 * 3 + 10
    assert not prepared({"metric": "ip"}).rescore
    assert prepared({"metric": "ip"}, vector=vector(100, 0)).rescore


def test_exact_queries_flat_indexes_and_small_filtered_searches_scan() -> None:
    assert prepared(exact=True).full_scan
    assert prepared({"index": "flat"}).full_scan
    assert prepared(condition=CONDITION, documents=MAX_SCANNED_DOCUMENTS).full_scan
    assert not prepared(condition=CONDITION, documents=MAX_SCANNED_DOCUMENTS + 1).full_scan


def test_an_exact_query_of_a_quantized_index_reads_every_vector() -> None:
    assert prepared({"quantization": "q8"}, documents=500, exact=True).count == 500


def test_an_approximate_filtered_search_requests_all_candidates_of_hnsw() -> None:
    one = prepared(condition=CONDITION, documents=MAX_SCANNED_DOCUMENTS + 1)
    assert (one.count, one.requested) == (3, 200)


def test_a_text_query_has_distinct_stems_and_room_for_its_filter() -> None:
    one = prepared(vector=None, text="dogs walk the dog", condition=CONDITION)
    assert (one.stems, one.count) == (["dog", "walk"], 103)


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ({"return_fields": frozenset()}, []),
        ({}, ["f"]),
        ({"return_vector": True}, ["v", "f"]),
        ({"return_fields": frozenset("n"), "return_text": True}, ["f", "t", "p"]),
        ({"vector": None, "text": "a", "return_fields": frozenset()}, ["f"]),
    ],
)
def test_only_required_parts_are_read(query: Any, parts: list[str]) -> None:
    assert prepared(**query).parts == parts


def test_a_search_that_found_too_few_is_incomplete() -> None:
    one = prepared()
    one.candidates = [("a", 1.0), ("b", 0.9)]
    assert one.is_incomplete(3)
    assert not one.is_incomplete(2)
    one.full_scan = True
    assert not one.is_incomplete(3)


def test_candidates_that_do_not_meet_the_filter_are_dropped() -> None:
    one = prepared(vector=None, text="a", condition=NumberCondition("n", "gt", (1.0,)))
    one.candidates = [("a", 3.0), ("b", 2.0), ("c", 1.0)]
    fields: list[dict[str, Value]] = [{"n": 2.0}, {"n": 1.0}, {}]
    one.documents = [{"f": dump_fields(each)} for each in fields]
    one.filter_candidates()
    assert one.candidates == [("a", 3.0)]
    assert len(one.documents) == 1


def test_a_text_query_may_lack_hits_if_the_filter_dropped_some() -> None:
    one = prepared(vector=None, text="a", condition=CONDITION)
    one.fetched = one.count
    one.candidates = [("a", 1.0)]
    assert one.may_lack_hits()
    one.fetched -= 1
    assert not one.may_lack_hits()


def test_a_full_scan_may_lack_hits_if_rounding_can_reorder_the_last_one() -> None:
    """13 candidates are fetched for a page of 3. Cosines in float32 are off by up to 5e-7."""
    one = prepared({"metric": "l2"}, exact=True)
    cosine = 0.1
    one.candidates = [(str(number), cosine) for number in range(13)]
    distance = one.transform.inverse(cosine, 1.0)[1]
    one.distances = np.full(13, distance)
    assert one.may_lack_hits()
    one.distances = np.full(13, distance * 0.9)
    assert not one.may_lack_hits()
    one.candidates = one.candidates[:12]
    one.distances = np.full(12, distance)
    assert not one.may_lack_hits()


def test_scores_come_from_the_transform_or_from_stored_vectors() -> None:
    one = prepared({"metric": "ip"})
    one.candidates = [("a", 0.5)]
    one.score_candidates()
    assert (one.similarities, one.distances) == ([1.0], [-1.0])
    exact = prepared({"metric": "l2"})
    exact.candidates = [("a", 0.5)]
    exact.documents = [{"v": vector(4, 4).tobytes()}]
    exact.score_candidates()
    assert exact.distances[0] == pytest.approx(5.0)


def test_a_result_is_ordered_cut_and_without_the_document_searched_by() -> None:
    one = prepared(document_id="me", limit=2, offset=1, min_similarity=0.2)
    one.candidates = [("b", 0.5), ("me", 1.0), ("a", 0.5), ("c", 0.9), ("far", 0.1)]
    one.score_candidates()
    result = one.result(0.25)
    assert ([hit.id for hit in result.hits], result.took) == (["a", "b"], 0.25)
    assert result.partial_reason == ""


def test_a_text_result_is_ordered_by_score() -> None:
    one = prepared(vector=None, text="a", return_fields=frozenset("n"), return_text=True)
    one.candidates = [("b", 1.0), ("a", 1.0), ("c", 2.0)]
    part = {"f": dump_fields({"n": 1.0, "m": 2.0}), "t": b"text", "p": b"\0"}
    one.documents = [part, part, part]
    one.score_candidates()
    hits = one.result(0).hits
    assert [(hit.id, hit.text_score, hit.score) for hit in hits] == [
        *(("c", 2.0, 2.0), ("a", 1.0, 1.0), ("b", 1.0, 1.0))
    ]
    assert (hits[0].fields, hits[0].text, hits[0].payload) == ({"n": 1.0}, "text", b"\0")


def test_a_short_result_says_that_documents_were_deleted() -> None:
    one = prepared()
    one.candidates, one.missing = [("a", 1.0)], 2
    one.score_candidates()
    assert one.result(0).partial_reason == "2 hits were deleted while the search ran"


def test_commands_are_explained_on_request() -> None:
    one = prepared(explain=True)
    one.explain(["VSIM", "key", b"\0\0", 3])
    assert one.explanation == ["VSIM key <vector> 3"]
    silent = prepared()
    silent.explain(["VSIM"])
    assert silent.explanation == []
