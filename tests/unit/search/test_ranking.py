from typing import Any

import pytest

from services.search.ranking import add_documents, fuse, needs_documents, split_hybrid
from services.search.types import Hit, Query, Result
from tests.fakes.search import collection, document, vector


def hybrid(**options: Any) -> Query:
    settings = {"fusion": "linear", "vector": vector(1, 0), "text": "cat"} | options
    return Query(collection(), **settings)


def near(*pairs: tuple[str, float]) -> Result:
    return Result([Hit(key, similarity, 1 - similarity) for key, similarity in pairs], took=0.5)


def worded(*triples: tuple[str, float, tuple[float, float]]) -> Result:
    hits = []
    for key, score, numbers in triples:
        hits.append(Hit(key, 0, 0, text_score=score, vector=vector(*numbers).tobytes()))
    return Result(hits)


def ids(result: Result) -> list[str]:
    return [hit.id for hit in result.hits]


def test_a_hybrid_query_is_split_into_a_vector_and_a_text_query() -> None:
    query = hybrid(limit=5, offset=3, depth=7, min_similarity=0.5, return_text=True)
    by_vector, by_text = split_hybrid(query)
    assert (by_vector.text, by_vector.fusion, by_vector.limit, by_vector.offset) == ("", "", 8, 0)
    assert (by_text.text, by_text.vector, by_text.return_vector) == ("cat", None, True)
    assert by_vector.min_similarity is None
    assert not by_text.return_text
    assert split_hybrid(hybrid(depth=50))[0].limit == 50


def test_linear_fusion_weighs_scaled_scores() -> None:
    by_vector = near(("a", 1.0), ("b", 0.5), ("c", 0.0))
    by_text = worded(("c", 4.0, (0, 1)), ("b", 3.0, (1, 1)))
    result = fuse(hybrid(vector_weight=0.5), by_vector, by_text)
    assert [(hit.id, hit.score) for hit in result.hits] == [
        *(("b", 0.5 * 0.5 + 0.5 * 0.75), ("a", 0.5), ("c", 0.5))
    ]
    assert ids(fuse(hybrid(vector_weight=1.0), by_vector, by_text)) == ["a", "b", "c"]


def test_reciprocal_rank_fusion_adds_reciprocal_ranks() -> None:
    by_vector, by_text = near(("a", 1.0), ("b", 0.5)), worded(("b", 9.0, (1, 1)))
    result = fuse(hybrid(fusion="rrf", rrf_constant=60.0), by_vector, by_text)
    scores = {hit.id: hit.score for hit in result.hits}
    assert scores == pytest.approx({"b": 1 / 62 + 1 / 61, "a": 1 / 61})
    assert ids(result) == ["b", "a"]


def test_hits_of_the_text_alone_get_their_true_similarity() -> None:
    result = fuse(hybrid(), near(("a", 1.0)), worded(("far", 1.0, (-2, 0))))
    far = next(hit for hit in result.hits if hit.id == "far")
    assert (far.similarity, far.distance) == (-1.0, 2.0)


def test_equal_scores_all_count_as_best() -> None:
    result = fuse(hybrid(vector_weight=0.5), near(("a", 0.3), ("b", 0.3)), Result([]))
    assert [(hit.id, hit.score) for hit in result.hits] == [("a", 1.0), ("b", 1.0)]


def test_a_page_is_cut_after_similar_hits_are_selected() -> None:
    by_vector = near(("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.1))
    query = hybrid(min_similarity=0.5, offset=1, limit=5)
    assert ids(fuse(query, by_vector, Result([]))) == ["b", "c"]


def test_vectors_are_returned_only_on_request() -> None:
    by_text = worded(("a", 1.0, (1, 0)))
    assert fuse(hybrid(), Result([]), by_text).hits[0].vector == b""
    by_text = worded(("a", 1.0, (1, 0)))
    assert fuse(hybrid(return_vector=True), Result([]), by_text).hits[0].vector != b""


def test_reasons_and_explanations_of_both_parts_are_returned() -> None:
    by_vector = Result([], 0.1, "one", ["VSIM"])
    by_text = Result([], 0.2, "two", ["EVAL"])
    result = fuse(hybrid(), by_vector, by_text)
    assert (result.partial_reason, result.explanation) == ("one; two", ["VSIM", "EVAL"])


def test_documents_are_needed_if_fields_or_texts_are_returned() -> None:
    assert needs_documents(hybrid())
    assert needs_documents(hybrid(return_fields=frozenset(), return_text=True))
    assert not needs_documents(hybrid(return_fields=frozenset()))
    assert not needs_documents(hybrid(fusion=""))


def test_documents_are_added_and_deleted_ones_dropped() -> None:
    result = near(("a", 0.9), ("gone", 0.8))
    one = document("a", 1, 0, fields={"n": 1.0, "m": 2.0}, text="cat", payload=b"p")
    query = hybrid(return_fields=frozenset("n"), return_text=True)
    add_documents(query, result, [one, None])
    [hit] = result.hits
    assert (hit.fields, hit.text, hit.payload) == ({"n": 1.0}, "cat", b"p")
    assert result.partial_reason == "1 hits were deleted while the search ran"
