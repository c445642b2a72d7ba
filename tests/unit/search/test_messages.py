from typing import Any

import pytest

from memetwin.search.v1 import search_pb2
from services.errors import Failure, InvalidArgument
from services.search.filters import GeoPoint, Value
from services.search.messages import (
    read_documents,
    read_updates,
    read_values,
    write_document,
    write_receipt,
    write_value,
)
from services.search.types import Document
from services.search.updates import FieldsUpdate
from services.search.upsert_stream import Receipt
from tests.fakes.search import collection, document, vector


@pytest.mark.parametrize("value", [1.5, "a", ("a", "b"), (), GeoPoint(1, 2)])
def test_values_are_read_as_they_were_written(value: Value) -> None:
    assert read_values({"f": write_value(value)}, "fields") == {"f": value}


def test_a_field_needs_a_value() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_values({"f": search_pb2.FieldValue()}, "documents[0].fields")
    assert (caught.value.reason, caught.value.field) == ("EMPTY_VALUE", "documents[0].fields")


def test_documents_are_read_as_they_were_written() -> None:
    one = document("a", 1, 2, fields={"n": 1.0}, text="t", payload=b"\0", ttl=1.5)
    message = write_document(one, with_vector=True)
    [read] = read_documents([message], collection())
    assert isinstance(read, Document)
    assert read.vector.tolist() == [1, 2]
    assert (read.id, read.fields, read.text) == ("a", {"n": 1.0}, "t")
    assert (read.payload, read.ttl) == (b"\0", 1.5)
    assert write_document(one, with_vector=False).vector == b""


def test_an_invalid_vector_is_named_by_its_path() -> None:
    good = write_document(document("a", 1, 2), with_vector=True)
    bad = search_pb2.Document(id="b", vector=vector(1).tobytes())
    with pytest.raises(InvalidArgument) as caught:
        read_documents([good, bad], collection())
    assert caught.value.field == "documents[1].vector"


def test_updates_are_read() -> None:
    message = search_pb2.FieldsUpdate(id="a", fields={"n": write_value(1.0)}, remove=["m"])
    assert read_updates([message]) == [FieldsUpdate("a", {"n": 1.0}, ("m",))]


@pytest.mark.parametrize(
    ("updates", "reason"),
    [
        ([], "BAD_BATCH"),
        ([{"id": "a"}] * 5001, "BAD_BATCH"),
        ([{"id": ""}], "BAD_ID"),
        ([{"id": "a"}, {"id": "a"}], "DUPLICATE_ID"),
    ],
)
def test_invalid_updates_are_refused(updates: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(Failure) as caught:
        read_updates([search_pb2.FieldsUpdate(**update) for update in updates])
    assert caught.value.reason == reason


def test_receipts_have_the_outcome() -> None:
    created, updated = write_receipt(Receipt("a", created=True)), write_receipt(Receipt("a"))
    assert created.status == search_pb2.UPSERT_STATUS_CREATED
    assert updated.status == search_pb2.UPSERT_STATUS_UPDATED
    failed = write_receipt(Receipt("a", failure=InvalidArgument("BAD_ID", "message")))
    assert failed.status == search_pb2.UPSERT_STATUS_FAILED
    assert (failed.code, failed.reason, failed.message) == (3, "BAD_ID", "message")
