"""FT.SEARCH commands, and recorded replies of a Query Engine (RESP2)."""

from typing import Any

import hiredis
import numpy as np
import pytest

from services.search.engines.keys import Keys
from services.search.engines.query_engine.command import SearchCommand, read_pairs
from services.search.engines.record import Index, Record
from services.search.filters import (
    ConditionGroup,
    GeoCondition,
    GeoPoint,
    TagCondition,
)
from services.search.index_defaults import with_index_defaults
from services.search.types import Collection, Query

FIELDS = {"kind": "tag", "place": "geo"}
VECTOR = np.array([1, 0.1, 0, 0], "<f4")
# KNN over an HNSW index with cosine: the distance is 1 - cos.
KNN = (
    "*7\r\n:3\r\n"
    "$3\r\nd:3\r\n*2\r\n$8\r\ndistance\r\n$17\r\n6.04391098022e-05\r\n"
    "$3\r\nd:1\r\n*2\r\n$8\r\ndistance\r\n$16\r\n0.00496286153793\r\n"
    "$3\r\nd:2\r\n*2\r\n$8\r\ndistance\r\n$14\r\n0.900496304035\r\n"
)
# KNN over a FLAT index with L2: the distance is squared.
SQUARED = (
    "*7\r\n:3\r\n"
    "$3\r\nd:1\r\n*2\r\n$8\r\ndistance\r\n$15\r\n0.0100000007078\r\n"
    "$3\r\nd:3\r\n*2\r\n$8\r\ndistance\r\n$15\r\n0.0100000044331\r\n"
    "$3\r\nd:2\r\n*2\r\n$8\r\ndistance\r\n$13\r\n1.80999994278\r\n"
)
# BM25 scores with the documents' fields. d:2 has expired since.
TEXT = (
    "*7\r\n:2\r\n"
    "$3\r\nd:1\r\n$18\r\n1.3365865943176911\r\n*2\r\n$1\r\nf\r\n$2\r\n{}\r\n"
    "$3\r\nd:2\r\n$18\r\n1.3365865943176911\r\n*-1\r\n"
)


def parsed(reply: str) -> Any:
    reader = hiredis.Reader()
    reader.feed(reply.encode())
    return reader.gets()


def command(options: dict[str, Any] | None = None, **query: Any) -> SearchCommand:
    """A query of a collection whose documents have the keys ``d:<id>``."""
    settings = {"fields": FIELDS, "engine": "query_engine"} | (options or {})
    collection = with_index_defaults(Collection("c", 4, **settings), "query_engine")
    record = Record(collection, index=Index(max_norm=2.0, scale=1.0))
    keys = Keys("", record)
    keys.document_prefix = "d:"
    query = {"return_fields": frozenset()} | query
    return SearchCommand(Query(collection, **query), record, keys)


def expression(one: SearchCommand) -> str:
    return str(one.arguments()[2])


def test_cosine_distances_are_read() -> None:
    one = command(vector=VECTOR)
    one.read(parsed(KNN))
    assert [key for key, _ in one.plan.candidates] == ["3", "1", "2"]
    assert one.plan.distances[0] == pytest.approx(6.04391098022e-05)
    assert one.plan.similarities[2] == pytest.approx(1 - 0.900496304035)
    assert one.plan.documents == []


def test_euclidean_distances_are_roots() -> None:
    one = command({"metric": "l2", "index": "flat"}, vector=VECTOR)
    one.read(parsed(SQUARED))
    assert one.plan.distances[0] == pytest.approx(0.1, abs=1e-6)
    assert one.plan.similarities[2] == pytest.approx(1 / (1 + 1.80999994278**0.5))


def test_inner_products_are_read() -> None:
    one = command({"metric": "ip"}, vector=VECTOR)
    one.read(parsed(KNN))
    assert one.plan.similarities[0] == pytest.approx(1 - 6.04391098022e-05)
    assert one.plan.distances[0] == -one.plan.similarities[0]


def test_text_scores_are_read_and_expired_documents_dropped() -> None:
    one = command(text="says", return_fields=None)
    one.read(parsed(TEXT))
    assert one.plan.candidates == [("1", 1.3365865943176911)]
    assert one.plan.text_scores == [1.3365865943176911]
    assert one.plan.fetched == 2


def test_a_vector_query_requests_neighbours() -> None:
    words = command(vector=VECTOR, limit=5, offset=2).arguments()
    assert words[0] == "FT.SEARCH"
    assert words[2] == "*=>[KNN 7 @v $b EF_RUNTIME 200 AS distance]"
    assert words[words.index("PARAMS") + 3] == VECTOR.tobytes()
    assert words[words.index("LIMIT") + 2] == 7
    assert words[words.index("RETURN") : words.index("LIMIT")] == ["RETURN", 1, "distance"]


def test_ef_is_at_least_the_number_of_hits() -> None:
    assert "EF_RUNTIME 33 " in expression(command(vector=VECTOR, ef=33))
    assert "EF_RUNTIME 500 " in expression(command(vector=VECTOR, ef=33, limit=500))


def test_an_exact_query_compares_every_document() -> None:
    found = expression(command(vector=VECTOR, exact=True))
    assert found == "(@h:{all})=>[KNN 10 @v $b HYBRID_POLICY ADHOC_BF AS distance]"
    assert "HYBRID_POLICY" not in expression(command({"index": "flat"}, vector=VECTOR, exact=True))


def test_other_encodings_have_a_hash_field_and_are_rescored() -> None:
    one = command({"vector_type": "float16"}, vector=VECTOR)
    assert one.plan.rescore
    assert "KNN 20 @i1 " in expression(one)
    words = one.arguments()
    assert words[words.index("PARAMS") + 3] == VECTOR.astype("<f2").tobytes()
    assert "v" in words[words.index("RETURN") : words.index("LIMIT")]
    assert "KNN 50 @i1 " in expression(command({"vector_type": "int8"}, vector=VECTOR))


def test_svs_vamana_has_a_search_window() -> None:
    options = {"index": "svs_vamana", "svs": {"SEARCH_WINDOW_SIZE": 70}}
    assert "SEARCH_WINDOW_SIZE 70 " in expression(command(options, vector=VECTOR))
    assert "SEARCH_WINDOW_SIZE 90 " in expression(command(options, vector=VECTOR, ef=90))


def test_a_text_query_searches_stems_and_scores_them() -> None:
    words = command(text="The walking dogs").arguments()
    assert words[2] == "(@s:(walk|dog))"
    assert words[3:6] == ["WITHSCORES", "SCORER", "BM25STD"]
    assert expression(command(text="the")) == "@h:{none}"


def test_a_query_for_everything_has_no_conditions() -> None:
    one = command()
    assert expression(one) == "*"
    assert "NOCONTENT" in one.arguments()
    tagged = expression(command(condition=TagCondition("kind", ("a",))))
    assert tagged == "((@t0:{x61})=>{$weight: 0})"


def test_a_circle_is_filtered_after_the_search_and_widened_until_the_page_is_full() -> None:
    circle = GeoCondition("place", GeoPoint(0, 0), 1000.0)
    one = command(vector=VECTOR, condition=ConditionGroup("all_of", (circle,)), limit=2)
    assert "KNN 102 " in expression(one)
    inside = b'{"place":{"lat":0.0,"lon":0.0}}'
    outside = b'{"place":{"lat":9.0,"lon":9.0}}'
    rows: list[Any] = []
    for number in range(102):
        fields = inside if number == 7 else outside
        rows += [b"d:%d" % number, [b"distance", b"0.5", b"f", fields]]
    one.read([102, *rows])
    assert [key for key, _ in one.plan.candidates] == ["7"]
    assert one.may_lack_hits()
    one.widen()
    assert "KNN 816 " in expression(one)
    one.read([102, *rows])
    assert not one.may_lack_hits()


def test_an_explanation_hides_vectors() -> None:
    one = command(vector=VECTOR, explain=True)
    one.arguments()
    [line] = one.plan.explanation
    assert line.startswith("FT.SEARCH ")
    assert "PARAMS 2 b <vector> DIALECT 2" in line


def test_pairs_become_a_dictionary() -> None:
    assert read_pairs([b"a", 1, b"b", [2]]) == {"a": 1, "b": [2]}
