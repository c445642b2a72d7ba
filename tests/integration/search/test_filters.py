"""Random filters on random documents: the engines agree with plain Python."""

import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.search.filters import holds
from services.search.messages import read_values
from services.search.query_messages import read_filter
from tests.stack import Stack

NUMBERS = st.one_of(
    st.integers(-3, 3).map(float),
    st.sampled_from([0.1, -0.1, 1e-300, 1e300, -1e17, 123456789.123456789, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
)
TAGS = st.one_of(
    st.sampled_from(["a", "A", "ä", "a b", 'q"uote', "{x}", "-", "\\", "x" * 500]),
    st.text(min_size=1, max_size=5),
)
PLACES = st.builds(search_pb2.GeoPoint, lat=st.floats(-90, 90), lon=st.floats(-180, 180))
WORDS = st.lists(st.sampled_from(["cat", "dog", "Café", "42"]), min_size=1, max_size=4).map(
    " ".join
)
Value = search_pb2.FieldValue
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "n": NUMBERS.map(lambda value: Value(number=value)),
        "m": NUMBERS.map(lambda value: Value(number=value)),
        "t": st.one_of(
            TAGS.map(lambda value: Value(string=value)),
            st.lists(TAGS, max_size=4).map(
                lambda values: Value(strings=search_pb2.Strings(values=values))
            ),
        ),
        "w": WORDS.map(lambda value: Value(string=value)),
        "g": PLACES.map(lambda value: Value(geo=value)),
    },
)
_ONE = list(range(1, 7))
LEAVES = st.one_of(
    st.builds(
        lambda field, op, value: search_pb2.Filter(
            number=search_pb2.NumberCondition(field=field, op=op, values=[value])
        ),
        st.sampled_from("nm"),
        st.sampled_from(_ONE),
        NUMBERS,
    ),
    st.builds(
        lambda field, values: search_pb2.Filter(
            number=search_pb2.NumberCondition(
                field=field, op=search_pb2.NUMBER_OPERATOR_BETWEEN, values=sorted(values)
            )
        ),
        st.sampled_from("nm"),
        st.lists(NUMBERS, min_size=2, max_size=2),
    ),
    st.builds(
        lambda values: search_pb2.Filter(
            number=search_pb2.NumberCondition(
                field="n", op=search_pb2.NUMBER_OPERATOR_IN, values=values
            )
        ),
        st.lists(NUMBERS, min_size=1, max_size=3),
    ),
    st.lists(TAGS, min_size=1, max_size=3).map(
        lambda tags: search_pb2.Filter(tag=search_pb2.TagCondition(field="t", any_of=tags))
    ),
    WORDS.map(
        lambda text: search_pb2.Filter(text=search_pb2.TextCondition(field="w", matches=text))
    ),
    st.builds(
        lambda centre, radius: search_pb2.Filter(
            geo=search_pb2.GeoCondition(field="g", centre=centre, radius_m=radius)
        ),
        PLACES,
        st.floats(0, 2e7),
    ),
    st.sampled_from("nmtwg").map(
        lambda field: search_pb2.Filter(exists=search_pb2.ExistsCondition(field=field))
    ),
)


def group(kind: str, members: list[search_pb2.Filter]) -> search_pb2.Filter:
    message = search_pb2.Filter()
    getattr(message, kind).filters.extend(members)
    getattr(message, kind).SetInParent()
    return message


FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        group, st.sampled_from(["all_of", "any_of", "none_of"]), st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = {
    "n": search_pb2.FIELD_TYPE_NUMBER,
    "m": search_pb2.FIELD_TYPE_NUMBER,
    "t": search_pb2.FIELD_TYPE_TAG,
    "w": search_pb2.FIELD_TYPE_TEXT,
    "g": search_pb2.FIELD_TYPE_GEO,
}


@pytest.fixture(scope="module")
def collection(stack: Stack, engine: Any) -> tuple[Any, str]:
    stub = search_pb2_grpc.SearchServiceStub(stack.search)
    name = f"filters-{uuid.uuid4()}"
    fields = [search_pb2.Field(name=field, type=kind) for field, kind in FIELDS.items()]
    created = search_pb2.Collection(name=name, dimensions=2, fields=fields, engine=engine)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=created))
    return stub, name


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    documents=st.lists(DOCUMENTS, min_size=1, max_size=12),
    conditions=st.lists(FILTERS, min_size=1, max_size=12),
)
def test_engines_and_python_agree(
    collection: tuple[Any, str],
    documents: list[dict[str, search_pb2.FieldValue]],
    conditions: list[search_pb2.Filter],
) -> None:
    assert_agree(*collection, documents, conditions)


def assert_agree(
    stub: Any,
    name: str,
    documents: list[dict[str, search_pb2.FieldValue]],
    conditions: list[search_pb2.Filter],
) -> None:
    """Write documents, search with every filter, and compare with plain Python."""
    rows = [
        search_pb2.Document(
            id=f"d{number}", vector=np.array([1, number], "<f4").tobytes(), fields=fields
        )
        for number, fields in enumerate(documents)
    ]
    stub.UpsertDocuments(search_pb2.UpsertDocumentsRequest(collection=name, documents=rows))
    ids = {f"d{number}" for number in range(len(documents))}
    queries = [
        search_pb2.Query(vector=np.ones(2, "<f4").tobytes(), filter=one, limit=100)
        for one in conditions
    ]
    reply = stub.Search(search_pb2.SearchRequest(collection=name, queries=queries))
    for condition, result in zip(conditions, reply.results, strict=True):
        read = read_filter(condition, "filter")
        assert read is not None
        expected = {
            f"d{number}"
            for number, fields in enumerate(documents)
            if holds(read, read_values(fields, ""))
        }
        found = {hit.id for hit in result.hits} & ids
        assert found == expected, condition
