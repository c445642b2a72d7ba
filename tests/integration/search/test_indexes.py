"""Vector types, algorithms and quantizations: scores are those of the original vectors."""

from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from tests.refusals import refused
from tests.search_client import METRICS, Stub, brute_force, create, describe, search, upsert

TYPES = {
    "float16": {"vector_type": search_pb2.VECTOR_TYPE_FLOAT16},
    "bfloat16": {"vector_type": search_pb2.VECTOR_TYPE_BFLOAT16},
    "int8": {"vector_type": search_pb2.VECTOR_TYPE_INT8},
    "svs": {"svs_vamana": search_pb2.SvsVamanaIndex(compression="LVQ8")},
}
QUANTIZATIONS = {
    "q8": {"quantization": search_pb2.QUANTIZATION_Q8},
    "binary": {"quantization": search_pb2.QUANTIZATION_BINARY},
}
ROWS = np.random.default_rng(0).normal(size=(400, 32)).astype("<f4")


def assert_agrees(stub: Stub, name: str, metric: str, share: float) -> None:
    """The scores equal those in float64, and a share of the nearest documents is found."""
    near = 0
    for query, hits in zip(ROWS[:30], search(stub, name, ROWS[:30], limit=5), strict=True):
        truth = brute_force(metric, ROWS, query)
        for hit in hits:
            assert hit.similarity == pytest.approx(truth[int(hit.id[1:])], abs=1e-5)
        near += sum(truth[int(hit.id[1:])] >= np.sort(truth)[-5] - 1e-6 for hit in hits)
    assert near / 150 >= share


def version(stub: Stub) -> tuple[int, ...]:
    name = create(stub)
    server = stub.GetCollection(search_pb2.GetCollectionRequest(name=name)).server
    return tuple(int(part) for part in server.version.split(".")[:2])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [*TYPES, *QUANTIZATIONS])
def test_encoded_vectors_are_rescored(stub: Stub, engine: int, kind: str, metric: str) -> None:
    options: Any = {**TYPES, **QUANTIZATIONS}[kind]
    if (kind in TYPES) != (engine == search_pb2.ENGINE_QUERY_ENGINE):
        reason = "NEEDS_QUERY_ENGINE" if kind in TYPES else "NEEDS_VECTOR_SETS"
        with refused(grpc.StatusCode.FAILED_PRECONDITION, reason):
            create(stub, 32, metric=METRICS[metric], **options)
        return
    if kind == "svs" and version(stub) < (8, 2):
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INDEX_NOT_SUPPORTED"):
            create(stub, 32, metric=METRICS[metric], **options)
        return
    name = create(stub, 32, metric=METRICS[metric], **options)
    upsert(stub, name, ROWS)
    assert_agrees(stub, name, metric, 0.6 if kind == "binary" else 0.98)
    assert describe(stub, name).document_count == 400


@pytest.mark.parametrize("metric", METRICS)
def test_a_flat_index_is_exact(stub: Stub, metric: str) -> None:
    name = create(stub, 32, metric=METRICS[metric], flat=search_pb2.FlatIndex())
    upsert(stub, name, ROWS)
    assert_agrees(stub, name, metric, 1.0)


def test_commands_are_explained_on_request(stub: Stub, engine: int) -> None:
    name = create(stub, 32)
    upsert(stub, name, ROWS[:10])
    query = search_pb2.Query(vector=ROWS[0].tobytes(), explain=True, ef=33)
    [result] = stub.Search(search_pb2.SearchRequest(collection=name, queries=[query])).results
    command = "FT.SEARCH" if engine == search_pb2.ENGINE_QUERY_ENGINE else "VSIM"
    assert result.engine == engine
    assert result.explanation[0].startswith(command)
    assert "33" in result.explanation[0]
    assert "<vector>" in result.explanation[0]


def test_the_server_is_described(stub: Stub) -> None:
    name = create(stub)
    server = stub.GetCollection(search_pb2.GetCollectionRequest(name=name)).server
    assert server.version[0].isdigit()
    assert server.vector_sets or server.query_engine
