"""Hits grouped by a field, compared with plain Python."""

from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from tests.refusals import refused
from tests.search_client import Stub, brute_force, create

FIELDS = [
    search_pb2.Field(name="kind", type=search_pb2.FIELD_TYPE_TAG),
    search_pb2.Field(name="year", type=search_pb2.FIELD_TYPE_NUMBER),
    search_pb2.Field(name="story", type=search_pb2.FIELD_TYPE_TEXT),
]


def value(one: Any) -> search_pb2.FieldValue:
    if isinstance(one, float):
        return search_pb2.FieldValue(number=one)
    return search_pb2.FieldValue(strings=search_pb2.Strings(values=one))


@pytest.fixture(scope="module")
def filled(stub: Stub) -> Any:
    """2,000 documents.

    Most have one of a few kinds, some none or two, and a hundred a unique one.
    """
    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, 8)).astype("<f4")
    name = create(stub, 8, fields=FIELDS)
    fields: list[dict[str, Any]] = []
    for number in range(2000):
        chosen: dict[str, Any] = {"year": float(number % 7)}
        if number % 20 == 0:
            chosen["kind"] = [f"rare{number}"]
        elif number % 10 == 1:
            chosen["kind"] = ["a", "b"]
        elif number % 10 != 2:
            chosen["kind"] = ["a"]
        fields.append(chosen)
    documents = [
        search_pb2.Document(
            id=f"d{number}",
            vector=row.tobytes(),
            fields={key: value(one) for key, one in fields[number].items()},
        )
        for number, row in enumerate(rows)
    ]
    stub.UpsertDocuments(search_pb2.UpsertDocumentsRequest(collection=name, documents=documents))
    return name, rows, fields


def expected(rows: Any, fields: Any, query: Any, by: str) -> dict[Any, list[str]]:
    similarities = brute_force("cosine", rows, query)
    groups: dict[Any, list[str]] = {}
    for number in np.argsort(-similarities, kind="stable"):
        one = fields[number].get(by)
        for member in one if isinstance(one, list) else [one]:
            if member is not None:
                groups.setdefault(member, []).append(f"d{number}")
    return groups


@pytest.mark.parametrize("by", ["kind", "year"])
def test_groups_equal_those_of_plain_python(stub: Stub, filled: Any, by: str) -> None:
    name, rows, fields = filled
    for number, (offset, limit, hits) in enumerate([(0, 5, 1), (0, 7, 3), (3, 10, 4), (50, 80, 2)]):
        query = search_pb2.Query(
            vector=rows[number].tobytes(),
            limit=limit,
            offset=offset,
            exact=True,
            return_no_fields=True,
            group_by=search_pb2.GroupBy(field=by, hits=hits),
        )
        reply = stub.Search(search_pb2.SearchRequest(collection=name, queries=[query]))
        [result] = reply.results
        found: dict[Any, list[str]] = {}
        for hit in result.hits:
            one: Any = hit.group.string if by == "kind" else hit.group.number
            found.setdefault(one, []).append(hit.id)
            assert not hit.fields
        groups = list(expected(rows, fields, rows[number], by).items())[offset : offset + limit]
        assert list(found.items()) == [(key, ids[:hits]) for key, ids in groups]
        assert not result.partial


def test_text_and_undeclared_fields_cannot_be_grouped_by(stub: Stub, filled: Any) -> None:
    name, rows, _ = filled
    for field in ("story", "none", ""):
        query = search_pb2.Query(vector=rows[0].tobytes(), group_by=search_pb2.GroupBy(field=field))
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_GROUP_FIELD"):
            stub.Search(search_pb2.SearchRequest(collection=name, queries=[query]))
