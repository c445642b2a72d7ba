"""Collections and documents: written, read, searched, deleted and refused."""

from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.search.v1 import search_pb2
from tests.refusals import refusal
from tests.search_client import METRICS, Stub, brute_force, create, describe, search, upsert
from tests.stack import Stack, wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def embeddings(stack: Stack, questions: list[str]) -> Any:
    """5,000 MiniLM embeddings with log-uniform norms from .5 to 2."""
    stub = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    parts = []
    for first in range(0, 5000, 500):
        inputs = [embedder_pb2.Input(text=text) for text in questions[first : first + 500]]
        reply = stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=120)
        parts.append(np.frombuffer(reply.vectors, "<f4").reshape(len(inputs), -1))
    scale = np.exp(np.random.default_rng(0).uniform(np.log(0.5), np.log(2), (5000, 1)))
    return (np.vstack(parts) * scale).astype("<f4")


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_finds_the_ten_nearest(stub: Stub, embeddings: Any, metric: str) -> None:
    name = create(stub, 384, metric=METRICS[metric])
    for first in range(0, 5000, 1000):
        upsert(stub, name, embeddings[first : first + 1000], first)
    queries = embeddings[np.random.default_rng(1).choice(5000, 100, replace=False)]
    found = {
        exact: search(stub, name, queries, exact=exact, limit=10, return_no_fields=True)
        for exact in (True, False)
    }
    near = 0
    for number, query in enumerate(queries):
        truth = brute_force(metric, embeddings, query)
        tenth = np.sort(truth)[-10]
        for hit in found[True][number]:
            similarity = truth[int(hit.id[1:])]
            assert similarity >= tenth - 1e-5
            assert hit.similarity == pytest.approx(similarity, abs=1e-5)
        near += sum(truth[int(hit.id[1:])] >= tenth - 1e-5 for hit in found[False][number])
    assert near / 1000 >= 0.99


def test_similarities_and_distances_are_those_of_the_contract(stub: Stub) -> None:
    rows = [[1, 0, 0, 0], [3, 4, 0, 0]]
    expected = {
        "cosine": [(1.0, 0.0), (0.6, 0.4)],
        "ip": [(3.0, -3.0), (1.0, -1.0)],
        "l2": [(1.0, 0.0), (1 / (1 + 20**0.5), 20**0.5)],
    }
    for metric, pairs in expected.items():
        name = create(stub, metric=METRICS[metric])
        upsert(stub, name, rows)
        [hits] = search(stub, name, [[1, 0, 0, 0]])
        scores = [(hit.similarity, hit.distance) for hit in hits]
        assert scores == [pytest.approx(pair, abs=1e-6) for pair in pairs]


def test_a_vector_with_a_larger_norm_is_stored(stub: Stub, engine: int) -> None:
    name = create(stub, metric=METRICS["ip"])
    upsert(stub, name, np.eye(4))
    upsert(stub, name, [[100, 0, 0, 0]], first=4)
    [hits] = search(stub, name, [[1, 0, 0, 0]])
    assert [hit.id for hit in hits[:2]] == ["d4", "d0"]
    assert hits[0].similarity == pytest.approx(100, rel=1e-5)
    described = describe(stub, name)
    assert described.document_count == 5
    if engine == search_pb2.ENGINE_VECTOR_SETS:  # the Query Engine has inner products itself
        assert described.health.max_norm >= 100


def test_documents_are_read_as_they_were_written(stub: Stub) -> None:
    fields = [
        search_pb2.Field(name="year", type=search_pb2.FIELD_TYPE_NUMBER),
        search_pb2.Field(name="tags", type=search_pb2.FIELD_TYPE_TAG),
        search_pb2.Field(name="place", type=search_pb2.FIELD_TYPE_GEO),
    ]
    name = create(stub, fields=fields)
    document = search_pb2.Document(
        id='it\'s "quoted", {braced} – ünïcode',
        vector=np.array([0.1, 0.2, 0.3, 0.4], "<f4").tobytes(),
        fields={
            "year": search_pb2.FieldValue(number=0.1),
            "tags": search_pb2.FieldValue(strings=search_pb2.Strings(values=["a b", "ç,"])),
            "place": search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=-33.9, lon=151.2)),
        },
        text="text\n" * 10,
        payload=bytes(range(256)),
    )
    request = search_pb2.UpsertDocumentsRequest(collection=name, documents=[document])
    assert stub.UpsertDocuments(request).created == 1
    assert stub.UpsertDocuments(request).updated == 1
    reply = stub.GetDocuments(
        search_pb2.GetDocumentsRequest(
            collection=name, ids=[document.id, "none"], return_vector=True
        )
    )
    assert list(reply.documents) == [document]
    assert list(reply.missing) == ["none"]


def test_documents_are_listed_in_pages_by_id(stub: Stub) -> None:
    name = create(stub)
    upsert(stub, name, np.random.default_rng(0).standard_normal((25, 4)))
    seen, token = [], ""
    while True:
        reply = stub.ListDocuments(
            search_pb2.ListDocumentsRequest(collection=name, page_size=10, page_token=token)
        )
        seen += [document.id for document in reply.documents]
        token = reply.next_page_token
        if not token:
            break
    assert seen == sorted(f"d{n}" for n in range(25))


def test_documents_are_deleted_by_id_and_by_filter(stub: Stub) -> None:
    name = create(stub, fields=[search_pb2.Field(name="kind", type=search_pb2.FIELD_TYPE_TAG)])
    rows = np.random.default_rng(0).standard_normal((6, 4))
    upsert(stub, name, rows[:3], fields={"kind": search_pb2.FieldValue(string="old")})
    upsert(stub, name, rows[3:], first=3, fields={"kind": search_pb2.FieldValue(string="new")})
    old = search_pb2.Filter(tag=search_pb2.TagCondition(field="kind", any_of=["old"]))
    delete = search_pb2.DeleteDocumentsRequest
    counted = stub.DeleteDocuments(delete(collection=name, filter=old))
    assert (counted.deleted, sorted(counted.sample)) == (3, ["d0", "d1", "d2"])
    assert len(search(stub, name, [[1, 0, 0, 0]])[0]) == 6
    assert stub.DeleteDocuments(delete(collection=name, filter=old, force=True)).deleted == 3
    ids = search_pb2.Ids(values=["d3", "none"])
    assert stub.DeleteDocuments(delete(collection=name, ids=ids)).deleted == 1
    assert sorted(hit.id for hit in search(stub, name, [[1, 0, 0, 0]])[0]) == ["d4", "d5"]
    assert refusal(stub.DeleteDocuments, delete(collection=name))[1] == "EMPTY_SELECTION"


def test_documents_expire(stub: Stub) -> None:
    name = create(stub)
    upsert(stub, name, [[0, 1, 0, 0]], first=1)
    upsert(stub, name, [[1, 0, 0, 0]], ttl=1.0)

    def found() -> list[str]:
        [hits] = search(stub, name, [[1, 0, 0, 0]], return_no_fields=True)
        return [hit.id for hit in hits]

    assert found()[-1] == "d1"
    wait_until(lambda: found() == ["d1"])
    ids = ["d0", "d1"]
    got = stub.GetDocuments(search_pb2.GetDocumentsRequest(collection=name, ids=ids))
    assert list(got.missing) == ["d0"]


def test_a_search_by_document_leaves_it_out(stub: Stub) -> None:
    name = create(stub)
    upsert(stub, name, [[1, 0, 0, 0], [1, 0.1, 0, 0], [0, 1, 0, 0]])
    query = search_pb2.Query(document_id="d0", limit=2)
    reply = stub.Search(search_pb2.SearchRequest(collection=name, queries=[query]))
    assert [hit.id for hit in reply.results[0].hits] == ["d1", "d2"]


def test_a_new_collection_has_nothing_of_a_deleted_one_of_its_name(stub: Stub) -> None:
    name = create(stub)
    upsert(stub, name, [[1, 0, 0, 0]])
    assert stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=name)).document_count == 1
    again = search_pb2.Collection(name=name, dimensions=2)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=again))
    assert search(stub, name, [[1, 0]]) == [[]]


def vector(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        ([], "EMPTY_BATCH"),
        ([{"id": "a", "vector": vector(1, 2)}], "WRONG_DIMENSIONS"),
        ([{"id": "a", "vector": b"abc"}], "WRONG_DIMENSIONS"),
        ([{"id": "a", "vector": vector(1, 2, 3, float("nan"))}], "NOT_FINITE"),
        ([{"id": "a", "vector": vector(1, 2, 3, float("inf"))}], "NOT_FINITE"),
        ([{"id": "a", "vector": vector(0, 0, 0, 0)}], "ZERO_VECTOR"),
        ([{"id": "", "vector": vector(1, 0, 0, 0)}], "BAD_ID"),
        ([{"id": "x" * 10_000, "vector": vector(1, 0, 0, 0)}], "BAD_ID"),
        ([{"id": "a", "vector": vector(1, 0, 0, 0)}] * 2, "DUPLICATE_ID"),
    ],
)
def test_bad_documents_are_refused_and_nothing_is_stored(
    stub: Stub, documents: list[dict[str, Any]], reason: str
) -> None:
    name = create(stub)
    good = [search_pb2.Document(id="good", vector=vector(1, 0, 0, 0))] if documents else []
    bad = [search_pb2.Document(**document) for document in documents]
    request = search_pb2.UpsertDocumentsRequest(collection=name, documents=[*good, *bad])
    assert refusal(stub.UpsertDocuments, request)[:2] == (INVALID, reason)
    reply = stub.ListDocuments(search_pb2.ListDocumentsRequest(collection=name))
    assert not reply.documents


def test_bad_queries_are_refused(stub: Stub) -> None:
    name = create(stub, model_digest="one")
    upsert(stub, name, [[1, 0, 0, 0]])

    def ask(collection: str = name, digest: str = "", **query: Any) -> tuple[Any, str]:
        queries = [search_pb2.Query(**query)] if query else []
        request = search_pb2.SearchRequest(
            collection=collection, queries=queries, model_digest=digest
        )
        return refusal(stub.Search, request)[:2]

    good = vector(1, 0, 0, 0)
    assert ask() == (INVALID, "EMPTY_BATCH")
    assert ask(limit=3) == (INVALID, "EMPTY_QUERY")
    assert ask("nowhere", vector=good) == (grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND")
    assert ask(vector=vector(1)) == (INVALID, "WRONG_DIMENSIONS")
    assert ask(vector=good, limit=10_001) == (INVALID, "OUT_OF_RANGE")
    undeclared = search_pb2.Filter(exists=search_pb2.ExistsCondition(field="x"))
    assert ask(vector=good, filter=undeclared) == (INVALID, "UNDECLARED_FIELD")
    assert ask(document_id="none") == (grpc.StatusCode.NOT_FOUND, "DOCUMENT_NOT_FOUND")
    mismatch = (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISMATCH")
    assert ask(digest="two", vector=good) == mismatch


def test_bad_collections_are_refused(stub: Stub) -> None:
    def ask(**collection: Any) -> str:
        fields: dict[str, Any] = {"name": "x", "dimensions": 4} | collection
        message = search_pb2.Collection(**fields)
        request = search_pb2.CreateCollectionRequest(collection=message)
        return refusal(stub.CreateCollection, request)[1]

    assert ask(name="") == "BAD_COLLECTION_NAME"
    assert ask(name="a b") == "BAD_COLLECTION_NAME"
    assert ask(dimensions=0) == "OUT_OF_RANGE"
    assert ask(metric=99) == "UNKNOWN_METRIC"
    assert (
        ask(fields=[search_pb2.Field(name="1", type=search_pb2.FIELD_TYPE_TAG)]) == "BAD_FIELD_NAME"
    )
    assert ask(name=create(stub)) == "COLLECTION_EXISTS"
