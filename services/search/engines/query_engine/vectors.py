"""Vectors in the forms that indexes of the Query Engine keep them in.

An index of the metric's own in float32 reads the documents' vectors, hash field ``v``; any other
has a field of its own, ``i<n>`` of the n-th generation.
"""

from typing import Any

import numpy as np

from services.search.engines.catalog import Index
from services.search.types import Collection, Vector

_METRICS = {"cosine": "COSINE", "ip": "IP", "l2": "L2"}


def field(collection: Collection, index: Index) -> str:
    """Return the hash field that an index reads its vectors from."""
    if collection.lifted == "cosine" and collection.vector_type == "float32":
        return "v"
    return f"i{index.generation}"


def stored(collection: Collection, index: Index, vectors: Vector) -> list[bytes]:
    """Return vectors, float32 [n, dimensions], as an index stores them."""
    if collection.lifted != "cosine" or collection.metric == "cosine":
        vectors = index.lift(collection.lifted).stored(vectors)
    return typed(vectors, collection)


def typed(rows: Vector, collection: Collection) -> list[bytes]:
    """Return vectors, float32 [n, dimensions], in the type of the index."""
    kind = collection.vector_type
    if kind == "int8":  # only directions matter
        rows = np.round(rows * (127 / np.abs(rows).max(axis=1, keepdims=True)))
        return [row.tobytes() for row in rows.astype(np.int8)]
    if kind == "bfloat16":
        bits = np.ascontiguousarray(rows, "<f4").view("<u4").astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return [row.tobytes() for row in rounded.astype("<u2")]
    return [row.tobytes() for row in rows.astype("<f2" if kind == "float16" else "<f4")]


def schema(collection: Collection, index: Index) -> list[Any]:
    """Return the part of FT.CREATE that declares the vectors."""
    extra = {"ip": 1, "l2": 2, "cosine": 0}[collection.lifted]
    metric = collection.metric if collection.lifted == "cosine" else "cosine"
    options: list[Any] = ["TYPE", collection.vector_type.upper()]
    options += ["DIM", collection.dimensions + extra, "DISTANCE_METRIC", _METRICS[metric]]
    if collection.index == "hnsw":
        options += ["M", collection.m, "EF_CONSTRUCTION", collection.ef_construction]
    for name, value in collection.svs.items():
        options += [name, value]
    kind = collection.index.upper().replace("_", "-")
    return [field(collection, index), "VECTOR", kind, len(options), *options]
