from typing import Any

import pytest

from services.search.types import Collection, selected_fields
from tests.fakes.search import collection


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"metric": "ip"}, "ip"),
        ({"metric": "l2", "engine": "query_engine"}, "cosine"),
        ({"metric": "l2", "engine": "query_engine", "vector_type": "int8"}, "l2"),
        ({}, "cosine"),
    ],
)
def test_vectors_are_transformed_where_the_engine_lacks_the_metric(
    options: Any, expected: str
) -> None:
    assert collection(**options).transformed_metric == expected


def test_a_shard_is_not_sharded_itself() -> None:
    assert collection(shards=3).is_sharded
    assert not collection(name="c#001", shards=3).is_sharded
    assert not collection(shards=1).is_sharded


def test_documents_fit_a_collection_with_more_fields() -> None:
    few: Collection = collection(fields={"n": "number"})
    many = collection(fields={"n": "number", "t": "tag"}, metric="l2")
    assert many.accepts_documents_of(few)
    assert not few.accepts_documents_of(many)
    assert not collection(dimensions=3, fields=few.fields).accepts_documents_of(few)


def test_fields_are_selected_by_name() -> None:
    assert selected_fields({"a": 1.0, "b": 2.0}, None) == {"a": 1.0, "b": 2.0}
    assert selected_fields({"a": 1.0, "b": 2.0}, frozenset("b")) == {"b": 2.0}
    assert selected_fields({"a": 1.0}, frozenset()) == {}
