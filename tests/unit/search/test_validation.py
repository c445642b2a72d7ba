from typing import Any

import numpy as np
import pytest

from services.errors import FailedPrecondition, Failure, InvalidArgument
from services.search import validation
from services.search.filters import GeoPoint
from tests.fakes.search import collection, document, vector


def reason(check: Any, *arguments: Any) -> str:
    """Return why a check fails, or an empty text."""
    try:
        check(*arguments)
    except Failure as failure:
        return failure.reason
    return ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"name": "a b"}, "BAD_COLLECTION_NAME"),
        ({"name": "x" * 201}, "BAD_COLLECTION_NAME"),
        ({"dimensions": 32769}, "OUT_OF_RANGE"),
        ({"m": 3}, "OUT_OF_RANGE"),
        ({"ef_construction": 10_001}, "OUT_OF_RANGE"),
        ({"ef_runtime": 100_001}, "OUT_OF_RANGE"),
        ({"shards": 1001}, "OUT_OF_RANGE"),
        ({"reduced_dimensions": 3}, "OUT_OF_RANGE"),
        ({"model_digest": "x" * 257}, "OUT_OF_RANGE"),
        ({"fields": {f"f{number}": "tag" for number in range(65)}}, "OUT_OF_RANGE"),
        ({"fields": {"1": "tag"}}, "BAD_FIELD_NAME"),
        ({"fields": {"a-b": "tag"}}, "BAD_FIELD_NAME"),
        ({"index": "flat", "quantization": "q8"}, "FLAT_IS_EXACT"),
        ({"index": "svs_vamana"}, "NEEDS_QUERY_ENGINE"),
        ({"vector_type": "int8"}, "NEEDS_QUERY_ENGINE"),
        ({"index": "flat", "reduced_dimensions": 1}, "NEEDS_VECTOR_SETS"),
        ({"reduced_dimensions": 1}, ""),
    ],
)
def test_collections_are_checked(options: Any, expected: str) -> None:
    assert reason(validation.check_collection, collection(**options)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"index": "svs_vamana", "vector_type": "float16"}, ""),
        ({"index": "svs_vamana", "vector_type": "int8"}, "BAD_VECTOR_TYPE"),
        ({"quantization": "q8"}, "NEEDS_VECTOR_SETS"),
        ({"reduced_dimensions": 1}, "NEEDS_VECTOR_SETS"),
        ({"shards": 2}, "NEEDS_VECTOR_SETS"),
        ({"shards": 1}, ""),
    ],
)
def test_the_query_engine_supports_other_settings(options: Any, expected: str) -> None:
    one = collection(engine="query_engine", **options)
    assert reason(validation.check_collection, one) == expected


def test_a_range_names_its_bounds() -> None:
    validation.check_range(1, 1, 3, "limit")
    validation.check_range(3, 1, 3, "limit")
    with pytest.raises(InvalidArgument, match="limit is 4; expected 1 to 3") as caught:
        validation.check_range(4, 1, 3, "limit")
    assert caught.value.field == "limit"
    assert caught.value.metadata == {"min": "1", "max": "3"}


def test_vectors_are_read_as_little_endian_float32() -> None:
    data = vector(0.5, -2).tobytes()
    assert validation.read_vector(data, collection(), "vector").tolist() == [0.5, -2]


@pytest.mark.parametrize(
    ("numbers", "options", "expected"),
    [
        ((1.0,), {}, "WRONG_DIMENSIONS"),
        ((1.0, float("nan")), {}, "NOT_FINITE"),
        ((1.0, float("-inf")), {}, "NOT_FINITE"),
        ((0.0, 0.0), {}, "ZERO_VECTOR"),
        ((0.0, 0.0), {"metric": "l2"}, ""),
        ((1e16, 0.0), {}, "TOO_LONG_VECTOR"),
        ((65505.0, 0.0), {"vector_type": "float16"}, "NOT_FINITE"),
        ((65504.0, 0.0), {"vector_type": "float16"}, ""),
    ],
)
def test_vectors_are_checked(numbers: Any, options: Any, expected: str) -> None:
    data, one = np.array(numbers, "<f4").tobytes(), collection(**options)
    assert reason(validation.read_vector, data, one, "vector") == expected


FIELDS = {"n": "number", "t": "tag", "w": "text", "g": "geo"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("n", 1.0, ""),
        ("n", float("inf"), "WRONG_FIELD_TYPE"),
        ("n", "1", "WRONG_FIELD_TYPE"),
        ("t", "a", ""),
        ("t", ("a", "b"), ""),
        ("t", 1.0, "WRONG_FIELD_TYPE"),
        ("w", "text", ""),
        ("w", ("text",), "WRONG_FIELD_TYPE"),
        ("g", GeoPoint(1, 2), ""),
        ("g", GeoPoint(91, 2), "WRONG_FIELD_TYPE"),
        ("x", 1.0, "UNDECLARED_FIELD"),
    ],
)
def test_fields_have_their_declared_type(name: str, value: Any, expected: str) -> None:
    one = collection(fields=FIELDS)
    assert reason(validation.check_fields, {name: value}, one, "documents[0]") == expected


def test_batches_of_documents_are_checked() -> None:
    good = document("a", 1, 2)
    check = validation.check_documents
    assert reason(check, [good, document("b", 1, 2)], collection()) == ""
    assert reason(check, [], collection()) == "EMPTY_BATCH"
    assert reason(check, [good, good], collection()) == "DUPLICATE_ID"
    assert reason(check, [good] * 5001, collection()) == "TOO_MANY_DOCUMENTS"
    assert reason(check, [document("a", 1, 2, ttl=-1)], collection()) == "BAD_TTL"
    assert reason(check, [document("a", 1, 2, ttl=float("nan"))], collection()) == "BAD_TTL"
    with pytest.raises(InvalidArgument) as caught:
        check([good, document("", 1, 2)], collection())
    assert caught.value.field == "documents[1].id"


def test_ids_have_1_to_512_bytes() -> None:
    assert reason(validation.check_ids, ["é" * 256]) == ""
    assert reason(validation.check_ids, ["a", "é" * 257]) == "BAD_ID"
    assert reason(validation.check_ids, []) == "EMPTY_BATCH"
    assert reason(validation.check_ids, ["a"] * 10_001) == "TOO_MANY_IDS"


def test_vectors_of_another_model_are_refused() -> None:
    one = collection(model_digest="m1")
    validation.check_model_digest("m1", one)
    validation.check_model_digest("", one)
    validation.check_model_digest("m2", collection())
    with pytest.raises(FailedPrecondition) as caught:
        validation.check_model_digest("m2", one)
    assert caught.value.reason == "MODEL_MISMATCH"


def test_pages_have_a_default_and_a_maximum() -> None:
    assert [validation.page_size(size) for size in (0, 5, 5000)] == [100, 5, 1000]
    assert reason(validation.page_size, -1) == "BAD_PAGE_SIZE"
