from typing import Any

import numpy as np
import pytest

from services.search.engines.query_engine.vectors import (
    encode,
    encode_documents,
    vector_field,
    vector_schema,
)
from services.search.engines.record import Index
from services.search.types import Collection
from tests.fakes.search import collection

ROWS = np.array([[0.5, -2.0], [3.0, 4.0]], "<f4")
INDEX = Index(3, 10.0, 1.0)


def one(**options: Any) -> Collection:
    return collection(engine="query_engine", **options)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_a_native_float32_index_reads_the_documents_vectors(metric: str) -> None:
    assert vector_field(one(metric=metric), INDEX) == "v"
    assert vector_field(one(metric=metric, vector_type="int8"), INDEX) == "i3"


def test_float16_is_little_endian() -> None:
    encoded = encode(ROWS, one(vector_type="float16"))
    assert np.frombuffer(encoded[0], "<f2").tolist() == [0.5, -2.0]


def test_bfloat16_is_the_upper_half_rounded_to_even() -> None:
    rows = np.array([[1.0, 1.00390625, 1.01171875, -3.14159]], "<f4")
    [encoded] = encode(rows, one(vector_type="bfloat16"))
    bits = np.frombuffer(encoded, "<u2").astype("<u4") << 16
    assert bits.view("<f4").tolist() == [1.0, 1.0, 1.015625, -3.140625]


def test_int8_uses_the_full_range_of_each_row() -> None:
    encoded = encode(ROWS, one(vector_type="int8"))
    assert np.frombuffer(encoded[0], np.int8).tolist() == [32, -127]
    assert np.frombuffer(encoded[1], np.int8).tolist() == [95, 127]


def test_documents_are_normalised_under_cosine_and_transformed_for_int8() -> None:
    unit = encode_documents(one(vector_type="float16"), INDEX, ROWS)
    assert np.frombuffer(unit[1], "<f2") == pytest.approx([0.6, 0.8], abs=1e-3)
    plain = encode_documents(one(metric="l2", vector_type="float16"), INDEX, ROWS)
    assert np.frombuffer(plain[1], "<f2").tolist() == [3.0, 4.0]
    transformed = encode_documents(one(metric="ip", vector_type="int8"), INDEX, ROWS)
    assert len(transformed[0]) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"metric": "l2", "m": 8, "ef_construction": 9},
            [
                *("v", "VECTOR", "HNSW", 10, "TYPE", "FLOAT32", "DIM", 2),
                *("DISTANCE_METRIC", "L2", "M", 8, "EF_CONSTRUCTION", 9),
            ],
        ),
        (
            {"metric": "l2", "index": "flat", "vector_type": "int8"},
            ["i3", "VECTOR", "FLAT", 6, "TYPE", "INT8", "DIM", 4, "DISTANCE_METRIC", "COSINE"],
        ),
        (
            {"metric": "ip", "index": "svs_vamana", "svs": {"COMPRESSION": "LVQ8"}},
            [
                *("v", "VECTOR", "SVS-VAMANA", 8, "TYPE", "FLOAT32", "DIM", 2),
                *("DISTANCE_METRIC", "IP", "COMPRESSION", "LVQ8"),
            ],
        ),
    ],
)
def test_the_schema_counts_its_options(options: Any, expected: list[Any]) -> None:
    assert vector_schema(one(**options), INDEX) == expected
