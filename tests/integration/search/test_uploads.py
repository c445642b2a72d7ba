"""Streams of documents, with a receipt for each; export and import of collections."""

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from tests.refusals import refused
from tests.search_client import METRICS, Stub, create, describe, search

CREATED, UPDATED, FAILED = (
    search_pb2.UPSERT_STATUS_CREATED,
    search_pb2.UPSERT_STATUS_UPDATED,
    search_pb2.UPSERT_STATUS_FAILED,
)


def document(key: str, row: Any, **options: Any) -> search_pb2.Document:
    return search_pb2.Document(id=key, vector=np.asarray(row, "<f4").tobytes(), **options)


def requests(name: str, batches: Any) -> Iterator[search_pb2.UpsertStreamRequest]:
    for number, documents in enumerate(batches):
        yield search_pb2.UpsertStreamRequest(collection="" if number else name, documents=documents)


def test_every_document_has_its_receipt_in_order(stub: Stub) -> None:
    name = create(stub, 8)
    rows = np.random.default_rng(0).normal(size=(1000, 8))
    batches = [
        [document(f"d{at}", rows[at]) for at in range(first, first + 100)]
        for first in range(0, 1000, 100)
    ]
    replies = list(stub.UpsertStream(requests(name, [*batches, batches[0]])))
    receipts = [receipt for reply in replies for receipt in reply.receipts]
    assert [receipt.id for receipt in receipts[:1000]] == [f"d{at}" for at in range(1000)]
    assert {receipt.status for receipt in receipts[:1000]} == {CREATED}
    assert {receipt.status for receipt in receipts[1000:]} == {UPDATED}
    assert describe(stub, name).document_count == 1000
    [hits] = search(stub, name, rows[:1], exact=True)
    assert hits[0].id == "d0"


def test_an_invalid_document_does_not_affect_the_others(stub: Stub) -> None:
    name = create(stub)
    good = np.eye(4)
    batch = [
        document("a", good[0]),
        document("b", [1, 2]),
        document("", good[1]),
        document("a", good[2]),
        document("c", good[3], ttl=-1.0),
        document("d", good[3]),
    ]
    [reply] = stub.UpsertStream(requests(name, [batch]))
    assert [receipt.status for receipt in reply.receipts] == [
        *(CREATED, FAILED, FAILED, FAILED, FAILED, CREATED)
    ]
    assert [receipt.reason for receipt in reply.receipts if receipt.reason] == [
        *("WRONG_DIMENSIONS", "BAD_ID", "DUPLICATE_ID", "BAD_TTL")
    ]
    assert reply.receipts[1].code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    [hits] = search(stub, name, [good[0]])
    assert {hit.id for hit in hits} == {"a", "d"}


def test_the_last_version_of_a_document_wins(stub: Stub) -> None:
    """Many batches in flight contain the same ids."""
    name = create(stub)
    random = np.random.default_rng(0)
    batches = [
        [document(f"d{at}", random.normal(size=4), text=str(number)) for at in range(20)]
        for number in range(30)
    ]
    replies = list(stub.UpsertStream(requests(name, batches)))
    assert len(replies) == 30
    ids = [f"d{at}" for at in range(20)]
    got = stub.GetDocuments(search_pb2.GetDocumentsRequest(collection=name, ids=ids))
    assert {one.text for one in got.documents} == {"29"}


def test_a_caller_that_waits_for_each_receipt_gets_it(stub: Stub) -> None:
    name = create(stub)
    received: queue.Queue[int] = queue.Queue()

    def one_by_one() -> Iterator[search_pb2.UpsertStreamRequest]:
        for number in range(5):
            batch = [document(f"d{number}", np.eye(4)[0])]
            yield search_pb2.UpsertStreamRequest(collection=name, documents=batch)
            assert received.get(timeout=30) == 1

    for reply in stub.UpsertStream(one_by_one(), timeout=60):
        received.put(len(reply.receipts))
    assert describe(stub, name).document_count == 5


def test_an_interrupted_stream_can_be_sent_again(stub: Stub) -> None:
    """Documents with a receipt are stored.

    After a restart from the beginning, none is lost or doubled.
    """
    name = create(stub, 8)
    rows = np.random.default_rng(0).normal(size=(2000, 8))
    batches = [
        [document(f"d{at}", rows[at]) for at in range(first, first + 50)]
        for first in range(0, 2000, 50)
    ]
    call = stub.UpsertStream(requests(name, batches))
    received = [receipt.id for _ in range(5) for receipt in next(call).receipts]
    call.cancel()
    got = stub.GetDocuments(search_pb2.GetDocumentsRequest(collection=name, ids=received))
    assert len(got.documents) == 250
    statuses = [
        receipt.status
        for reply in stub.UpsertStream(requests(name, batches))
        for receipt in reply.receipts
    ]
    assert len(statuses) == 2000
    assert set(statuses[:250]) == {UPDATED}
    assert describe(stub, name).document_count == 2000


def test_a_stream_without_a_collection_is_refused(stub: Stub) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND"):
        list(stub.UpsertStream(requests("there-is-none", [[]])))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_COLLECTION_NAME"):
        list(stub.UpsertStream(requests("", [[]])))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_an_imported_collection_equals_the_exported_one(stub: Stub, metric: str) -> None:
    field = search_pb2.Field(name="kind", type=search_pb2.FIELD_TYPE_TAG)
    name = create(stub, 8, metric=METRICS[metric], fields=[field], model_digest="m1")
    rows = np.random.default_rng(0).normal(size=(450, 8))
    kind = {"kind": search_pb2.FieldValue(string="ä {b}")}
    batch = [
        document(f"d{at:03}", row, fields=kind, text=f"story {at}", payload=b"\0\xff")
        for at, row in enumerate(rows)
    ]
    list(stub.UpsertStream(requests(name, [batch])))
    exported = list(stub.ExportCollection(search_pb2.ExportCollectionRequest(collection=name)))
    assert exported[0].WhichOneof("piece") == "collection"
    documents = [one for piece in exported[1:] for one in piece.documents.documents]
    assert documents == batch

    copy = f"{name}-copy"
    exported[0].collection.name = copy
    pieces = [
        search_pb2.ImportCollectionRequest.FromString(piece.SerializeToString())
        for piece in exported
    ]
    reply = stub.ImportCollection(iter(pieces))
    assert (reply.created, reply.updated) == (450, 0)
    again = stub.ImportCollection(iter(pieces))
    assert (again.created, again.updated) == (0, 450)
    found, copied = (
        search(stub, one, rows[:20], exact=True, return_text=True) for one in (name, copy)
    )
    assert found == copied
    pieces[0].collection.dimensions = 9
    with refused(grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS"):
        stub.ImportCollection(iter(pieces))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_SEQUENCE"):
        stub.ImportCollection(iter(pieces[1:]))
