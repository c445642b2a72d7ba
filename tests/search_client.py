"""Short calls to the search service, and the exact results to compare with."""

import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np

from memetwin.search.v1 import search_pb2, search_pb2_grpc

Stub = search_pb2_grpc.SearchServiceStub
METRICS = {
    "cosine": search_pb2.METRIC_COSINE,
    "ip": search_pb2.METRIC_IP,
    "l2": search_pb2.METRIC_L2,
}


def create(stub: Stub, dimensions: int = 4, **options: Any) -> str:
    """Create a collection on the engine of the stub; return its name."""
    name = f"c-{uuid.uuid4()}"
    options = {"engine": getattr(stub, "engine", search_pb2.ENGINE_UNSPECIFIED)} | options
    collection = search_pb2.Collection(name=name, dimensions=dimensions, **options)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    return name


def describe(stub: Stub, name: str) -> search_pb2.Collection:
    return stub.GetCollection(search_pb2.GetCollectionRequest(name=name)).collection


def upsert(stub: Stub, name: str, rows: Any, first: int = 0, **fields: Any) -> Any:
    """Write documents ``d<first>``, ``d<first + 1>``, … with the same fields."""
    documents = [
        search_pb2.Document(id=f"d{first + n}", vector=np.asarray(row, "<f4").tobytes(), **fields)
        for n, row in enumerate(rows)
    ]
    return stub.UpsertDocuments(
        search_pb2.UpsertDocumentsRequest(collection=name, documents=documents)
    )


def search(stub: Stub, name: str, rows: Iterable[Any], **options: Any) -> list[list[Any]]:
    """Return the hits of a query by each vector."""
    queries = [search_pb2.Query(vector=np.asarray(row, "<f4").tobytes(), **options) for row in rows]
    reply = stub.Search(search_pb2.SearchRequest(collection=name, queries=queries))
    return [list(result.hits) for result in reply.results]


def brute_force(metric: str, rows: Any, query: Any) -> Any:
    """Return the similarity of a query to each row, in float64."""
    rows, query = np.asarray(rows, float), np.asarray(query, float)
    if metric == "l2":
        return 1 / (1 + np.linalg.norm(rows - query, axis=1))
    if metric == "ip":
        return rows @ query
    return rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
