"""Recall is measured on live data, and a setting is recommended by measurements."""

from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from tests.refusals import refused
from tests.search_client import METRICS, Stub, create, describe, search, upsert


@pytest.fixture(scope="module", params=["cosine", "ip", "l2"])
def filled(stub: Stub, request: Any) -> str:
    rows = np.random.default_rng(0).normal(size=(3000, 32))
    name = create(stub, 32, metric=METRICS[request.param], hnsw=search_pb2.HnswIndex(m=4))
    upsert(stub, name, rows)
    return name


def test_recall_grows_with_ef(stub: Stub, filled: str) -> None:
    request = search_pb2.MeasureRecallRequest(
        collection=filled, sample=60, ef_runtime=[10, 1000], seed=1
    )
    *progress, last = stub.MeasureRecall(request)
    assert [one.done for one in progress] == [20, 40, 60]
    few, many = last.measurements
    assert 0.1 < few.recall < many.recall
    assert many.recall > 0.95
    assert 0 < few.p50 <= few.p99
    assert last.exact_p50 > 0
    assert few.setting.ef_runtime == 10
    assert few.memory_bytes > 3000 * 32
    again = list(stub.MeasureRecall(request))[-1]
    # The Query Engine continues to build its graph in the background.
    recalls = [one.recall for one in again.measurements]
    assert recalls == pytest.approx([few.recall, many.recall], abs=0.15)


def test_a_setting_is_recommended_and_no_index_stays(stub: Stub, filled: str) -> None:
    request = search_pb2.TuneIndexRequest(
        collection=filled,
        target_recall=0.9,
        documents=1000,
        queries=40,
        m=[4, 16],
        ef_construction=[50],
        ef_runtime=[10, 300],
    )
    replies = list(stub.TuneIndex(request))
    assert [(one.done, one.total) for one in replies] == [(1, 2), (2, 2)]
    measured = [one for reply in replies for one in reply.measurements]
    recalls = {(one.setting.m, one.setting.ef_runtime): one.recall for one in measured}
    assert recalls[4, 10] < recalls[16, 300]
    assert recalls[16, 300] > 0.95
    best = replies[-1].recommended
    assert best in measured
    assert best.recall >= 0.9
    assert best.documents_per_second > 0
    assert replies[-1].documents == 1000
    names = [
        one.name
        for one in stub.ListCollections(
            search_pb2.ListCollectionsRequest(page_size=1000, include_internal=True)
        ).collections
    ]
    assert not [one for one in names if one.startswith(".tune")]


def test_collections_without_documents_are_refused(stub: Stub) -> None:
    name = create(stub)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "EMPTY_COLLECTION"):
        list(stub.MeasureRecall(search_pb2.MeasureRecallRequest(collection=name)))
    upsert(stub, name, np.eye(4)[:3])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "TOO_FEW_DOCUMENTS"):
        list(stub.TuneIndex(search_pb2.TuneIndexRequest(collection=name)))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "OUT_OF_RANGE"):
        list(stub.TuneIndex(search_pb2.TuneIndexRequest(collection=name, k=1000)))


def test_reduced_vectors_are_rescored(stub: Stub, engine: int) -> None:
    if engine == search_pb2.ENGINE_QUERY_ENGINE:
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "NEEDS_VECTOR_SETS"):
            create(stub, 64, reduced_dimensions=16)
        return
    rows = np.random.default_rng(0).normal(size=(500, 64))
    name = create(stub, 64, reduced_dimensions=32)
    upsert(stub, name, rows)
    for number, hits in enumerate(search(stub, name, rows[:30], limit=3)):
        assert hits[0].id == f"d{number}"
        assert hits[0].similarity == pytest.approx(1, abs=1e-6)
    assert describe(stub, name).reduced_dimensions == 32
