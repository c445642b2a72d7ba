"""Aliases, fields, settings and indexes change while searches continue."""

import threading
from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from tests.refusals import refused
from tests.search_client import METRICS, Stub, brute_force, create, describe, search, upsert
from tests.stack import wait_until

NUMBER, TAG = search_pb2.FIELD_TYPE_NUMBER, search_pb2.FIELD_TYPE_TAG
Field = search_pb2.Field


def value(one: float | str) -> search_pb2.FieldValue:
    if isinstance(one, str):
        return search_pb2.FieldValue(string=one)
    return search_pb2.FieldValue(number=one)


def matching(stub: Stub, name: str, condition: search_pb2.Filter) -> set[str]:
    query = search_pb2.Query(everything=search_pb2.Everything(), filter=condition, limit=1000)
    reply = stub.Search(search_pb2.SearchRequest(collection=name, queries=[query]))
    return {hit.id for hit in reply.results[0].hits}


def exists(name: str) -> search_pb2.Filter:
    return search_pb2.Filter(exists=search_pb2.ExistsCondition(field=name))


def negated(condition: search_pb2.Filter) -> search_pb2.Filter:
    return search_pb2.Filter(none_of=search_pb2.Filters(filters=[condition]))


def tagged(name: str, tag: str) -> search_pb2.Filter:
    return search_pb2.Filter(tag=search_pb2.TagCondition(field=name, any_of=[tag]))


def test_an_alias_moves_from_one_collection_to_another(stub: Stub) -> None:
    first, second = create(stub), create(stub)
    upsert(stub, first, np.eye(4))
    upsert(stub, second, np.eye(4)[:1])
    alias = f"a-{first}"
    assign = search_pb2.AssignAliasRequest
    assert stub.AssignAlias(assign(alias=alias, collection=first)).previous == ""
    assert len(search(stub, alias, [[1, 0, 0, 0]])[0]) == 4
    assert upsert(stub, alias, np.eye(4)).updated == 4
    described = describe(stub, alias)
    assert (described.name, list(described.aliases)) == (first, [alias])
    assert stub.AssignAlias(assign(alias=alias, collection=second)).previous == first
    assert len(search(stub, alias, [[1, 0, 0, 0]])[0]) == 1
    deleted = stub.DeleteAlias(search_pb2.DeleteAliasRequest(alias=alias))
    assert deleted.collection == second
    with refused(grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND"):
        search(stub, alias, [[1, 0, 0, 0]])
    with refused(grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"):
        stub.DeleteAlias(search_pb2.DeleteAliasRequest(alias=alias))


def test_an_alias_and_a_collection_cannot_have_the_same_name(stub: Stub) -> None:
    name, other = create(stub), create(stub)
    assign = search_pb2.AssignAliasRequest
    with refused(grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS"):
        stub.AssignAlias(assign(alias=other, collection=name))
    alias = f"a-{name}"
    stub.AssignAlias(assign(alias=alias, collection=name))
    collection = search_pb2.Collection(name=alias, dimensions=4)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS"):
        stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "IS_AN_ALIAS"):
        stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=alias))
    with refused(grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND"):
        stub.AssignAlias(assign(alias="b", collection="there-is-none"))
    stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=name))
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))


def test_updated_fields_leave_the_rest_of_a_document_alone(stub: Stub) -> None:
    name = create(stub, fields=[Field(name="year", type=NUMBER), Field(name="kind", type=TAG)])
    upsert(stub, name, np.eye(4), fields={"year": value(1.0), "kind": value("cat")}, text="a story")
    update = search_pb2.FieldsUpdate
    updates = [
        update(id="d0", fields={"kind": value("dög, {}")}),
        update(id="d1", remove=["kind"]),
        update(id="d2", fields={"year": value(7.5)}, remove=["kind"]),
    ]
    request = search_pb2.UpdateFieldsRequest(collection=name, updates=updates)
    assert stub.UpdateFields(request).updated == 3
    assert matching(stub, name, tagged("kind", "dög, {}")) == {"d0"}
    assert matching(stub, name, negated(exists("kind"))) == {"d1", "d2"}
    got = stub.GetDocuments(
        search_pb2.GetDocumentsRequest(collection=name, ids=["d2"], return_vector=True)
    )
    [document] = got.documents
    assert dict(document.fields) == {"year": value(7.5)}
    assert document.text == "a story"
    assert np.frombuffer(document.vector, "<f4").tolist() == [0, 0, 1, 0]
    [hits] = search(stub, name, [[0, 0, 1, 0]], limit=1)
    assert hits[0].id == "d2"
    assert hits[0].similarity == pytest.approx(1)


def test_fields_of_all_documents_are_updated_or_of_none(stub: Stub) -> None:
    name = create(stub, fields=[Field(name="kind", type=TAG)])
    upsert(stub, name, np.eye(4), fields={"kind": value("cat")})
    update = search_pb2.FieldsUpdate
    good = update(id="d0", fields={"kind": value("dog")})
    for bad, code, reason in [
        (update(id="none"), grpc.StatusCode.NOT_FOUND, "DOCUMENT_NOT_FOUND"),
        (update(id="d0"), grpc.StatusCode.INVALID_ARGUMENT, "DUPLICATE_ID"),
        (
            update(id="d1", fields={"kind": value(3.0)}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "WRONG_FIELD_TYPE",
        ),
    ]:
        with refused(code, reason):
            stub.UpdateFields(search_pb2.UpdateFieldsRequest(collection=name, updates=[good, bad]))
    assert matching(stub, name, tagged("kind", "cat")) == {"d0", "d1", "d2", "d3"}


def test_concurrent_updates_of_one_document_all_succeed(stub: Stub) -> None:
    names = [f"n{number}" for number in range(8)]
    name = create(stub, fields=[Field(name=one, type=NUMBER) for one in names])
    upsert(stub, name, np.eye(4)[:1])

    def change(field: str) -> None:
        for number in range(5):
            update = search_pb2.FieldsUpdate(id="d0", fields={field: value(float(number))})
            request = search_pb2.UpdateFieldsRequest(collection=name, updates=[update])
            stub.UpdateFields(request)

    threads = [threading.Thread(target=change, args=[one]) for one in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = stub.GetDocuments(search_pb2.GetDocumentsRequest(collection=name, ids=["d0"]))
    assert dict(got.documents[0].fields) == dict.fromkeys(names, value(4.0))


def test_fields_and_settings_of_a_collection_are_updated(stub: Stub) -> None:
    name = create(stub, fields=[Field(name="year", type=NUMBER)])
    upsert(stub, name, np.eye(4), fields={"year": value(1.0)})
    request = search_pb2.UpdateCollectionRequest(
        name=name, add_fields=[Field(name="kind", type=TAG)], ef_runtime=77, model_digest="m1"
    )
    updated = stub.UpdateCollection(request).collection
    assert [field.name for field in updated.fields] == ["year", "kind"]
    assert (updated.hnsw.ef_runtime, updated.model_digest) == (77, "m1")
    assert matching(stub, name, negated(exists("kind"))) == {"d0", "d1", "d2", "d3"}
    assert matching(stub, name, exists("year")) == {"d0", "d1", "d2", "d3"}
    upsert(stub, name, np.eye(4)[1:2], first=1, fields={"kind": value("cat")})
    assert matching(stub, name, tagged("kind", "cat")) == {"d1"}
    assert stub.UpdateCollection(request).collection.fields == updated.fields
    with refused(grpc.StatusCode.ALREADY_EXISTS, "FIELD_EXISTS"):
        stub.UpdateCollection(
            search_pb2.UpdateCollectionRequest(
                name=name, add_fields=[Field(name="kind", type=NUMBER)]
            )
        )


@pytest.mark.parametrize(
    "change",
    [
        {"metric": METRICS["l2"]},
        {"metric": METRICS["ip"], "hnsw": search_pb2.HnswIndex(m=8)},
        {"flat": search_pb2.FlatIndex()},
    ],
    ids=["l2", "ip", "flat"],
)
def test_searches_and_writes_continue_during_a_reindex(stub: Stub, change: Any) -> None:
    """Searches and writes during a change: none fails or returns too few, and nothing is lost."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(3000, 32)).astype("<f4") * random.uniform(0.5, 2, (3000, 1))
    rows = rows.astype("<f4")
    name = create(stub, 32)
    upsert(stub, name, rows[:2500])
    failures: list[Any] = []
    answers: list[int] = []
    written = [2500]
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                [hits] = search(stub, name, [rows[len(answers) % 2500]], limit=5)
                answers.append(len(hits))
            except grpc.RpcError as error:
                failures.append(error)
            done.wait(0.02)

    def write() -> None:
        while not done.is_set() and written[0] < 3000:
            try:
                upsert(stub, name, rows[written[0] : written[0] + 10], first=written[0])
                written[0] += 10
            except grpc.RpcError as error:
                failures.append(error)
            done.wait(0.02)

    threads = [threading.Thread(target=one) for one in (ask, ask, write)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) > 5 and written[0] > 2500)
        progress = list(stub.Reindex(search_pb2.ReindexRequest(collection=name, **change)))
        answered = len(answers)
        wait_until(lambda: len(answers) > answered + 5)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert set(answers) == {5}
    assert progress[-1].collection.WhichOneof("index") == ("flat" if "flat" in change else "hnsw")
    assert progress[-1].collection.metric == change.get("metric", search_pb2.METRIC_COSINE)
    metric = {number: key for key, number in METRICS.items()}[progress[-1].collection.metric]
    found = search(stub, name, rows[:50], limit=10, exact=True, return_no_fields=True)
    for query, hits in zip(rows[:50], found, strict=True):
        truth = brute_force(metric, rows[: written[0]], query)
        tenth = np.sort(truth)[-10]
        # Relative, since the Query Engine computes inner products in float32.
        tolerance = 1e-5 * max(1, abs(tenth))
        assert all(truth[int(hit.id[1:])] >= tenth - tolerance for hit in hits)
        expected = sorted(truth, reverse=True)[:10]
        assert [hit.similarity for hit in hits] == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_a_reindex_that_is_impossible_is_refused(stub: Stub, engine: int) -> None:
    name = create(stub, metric=METRICS["l2"])
    upsert(stub, name, [*np.eye(4), [0, 0, 0, 0]])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "ZERO_VECTOR"):
        list(stub.Reindex(search_pb2.ReindexRequest(collection=name, metric=METRICS["cosine"])))
    [hits] = search(stub, name, [[1, 0, 0, 0]])
    assert len(hits) == 5
    other = (
        {"quantization": search_pb2.QUANTIZATION_Q8}
        if engine == search_pb2.ENGINE_QUERY_ENGINE
        else {"vector_type": search_pb2.VECTOR_TYPE_FLOAT16}
    )
    needed = "NEEDS_VECTOR_SETS" if "quantization" in other else "NEEDS_QUERY_ENGINE"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, needed):
        list(stub.Reindex(search_pb2.ReindexRequest(collection=name, **other)))


def test_a_reindex_changes_the_type_of_vectors(stub: Stub, engine: int) -> None:
    name = create(stub, 16)
    rows = np.random.default_rng(0).normal(size=(300, 16))
    upsert(stub, name, rows)
    query_engine = engine == search_pb2.ENGINE_QUERY_ENGINE
    change = (
        {"vector_type": search_pb2.VECTOR_TYPE_FLOAT16}
        if query_engine
        else {"quantization": search_pb2.QUANTIZATION_Q8}
    )
    *_, last = stub.Reindex(search_pb2.ReindexRequest(collection=name, **change))
    assert last.collection.vector_type == (
        search_pb2.VECTOR_TYPE_FLOAT16 if query_engine else search_pb2.VECTOR_TYPE_FLOAT32
    )
    assert last.collection.document_count == 300
    for query, hits in zip(rows, search(stub, name, rows, limit=3), strict=True):
        truth = sorted(brute_force("cosine", rows, query), reverse=True)
        assert hits[0].similarity == pytest.approx(truth[0], abs=1e-6)
    *_, again = stub.Reindex(search_pb2.ReindexRequest(collection=name, **change))
    assert again.collection == last.collection
