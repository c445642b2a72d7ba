"""Encodes vectors as the indexes of the Query Engine store them.

A float32 index in the collection's own metric reads the documents' vectors, hash field ``v``. Any
other index has a separate hash field, ``i<n>`` for the n-th generation.
"""

from typing import Any

import numpy as np

from services.search.engines.record import Index
from services.search.types import Collection, Vector

DOCUMENT_FIELD = "v"
_METRICS = {"cosine": "COSINE", "ip": "IP", "l2": "L2"}
_ADDED_DIMENSIONS = {"cosine": 0, "ip": 1, "l2": 2}


def vector_field(collection: Collection, index: Index) -> str:
    """Return the hash field that an index reads its vectors from."""
    if collection.transformed_metric == "cosine" and collection.vector_type == "float32":
        return DOCUMENT_FIELD
    return f"i{index.generation}"


def encode_documents(collection: Collection, index: Index, vectors: Vector) -> list[bytes]:
    """Encode documents' vectors, float32 [n, dimensions], as the index stores them."""
    if collection.transformed_metric != "cosine" or collection.metric == "cosine":
        vectors = index.transform(collection.transformed_metric).transform(vectors)
    return encode(vectors, collection)


def encode(rows: Vector, collection: Collection) -> list[bytes]:
    """Encode each row of float32 [n, dimensions] in the collection's vector type."""
    vector_type = collection.vector_type
    if vector_type == "int8":  # only directions matter, so every row uses the full range
        rows = np.round(rows * (127 / np.abs(rows).max(axis=1, keepdims=True)))
        return [row.tobytes() for row in rows.astype(np.int8)]
    if vector_type == "bfloat16":  # the upper half of float32, rounded to even
        bits = np.ascontiguousarray(rows, "<f4").view("<u4").astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return [row.tobytes() for row in rounded.astype("<u2")]
    return [row.tobytes() for row in rows.astype("<f2" if vector_type == "float16" else "<f4")]


def vector_schema(collection: Collection, index: Index) -> list[Any]:
    """Return the part of FT.CREATE's schema that declares the vectors."""
    transformed = collection.transformed_metric
    metric = collection.metric if transformed == "cosine" else "cosine"
    dimensions = collection.dimensions + _ADDED_DIMENSIONS[transformed]
    options: list[Any] = ["TYPE", collection.vector_type.upper(), "DIM", dimensions]
    options += ["DISTANCE_METRIC", _METRICS[metric]]
    if collection.index == "hnsw":
        options += ["M", collection.m, "EF_CONSTRUCTION", collection.ef_construction]
    for name, value in collection.svs.items():
        options += [name, value]
    algorithm = collection.index.upper().replace("_", "-")
    return [vector_field(collection, index), "VECTOR", algorithm, len(options), *options]
