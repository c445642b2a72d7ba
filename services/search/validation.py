"""Checks collections, documents and the sizes of requests.

``path`` is the path of the checked value in the request, as in google.rpc.BadRequest.
"""

import re
from collections.abc import Mapping, Sequence, Sized
from math import isfinite
from typing import Any

import numpy as np

from services.errors import FailedPrecondition, InvalidArgument
from services.search.filters import GeoPoint, Value
from services.search.types import Collection, Document, Vector

MAX_DIMENSIONS = 32768
MAX_FIELDS = 64
MAX_ID_BYTES = 512
MAX_DOCUMENTS = 5_000
MAX_IDS = 10_000
MAX_QUERIES = 1_000
MAX_HITS = 10_000
MAX_EF = 100_000
MAX_SHARDS = 1_000
MAX_PAGE_SIZE = 1000
_DEFAULT_PAGE_SIZE = 100
_MAX_FLOAT16 = 65504
# The square of a norm must stay within float32, in which Redis compares vectors.
_MAX_NORM = 1e15
_COLLECTION_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def check_range(value: int, minimum: int, maximum: int, path: str) -> None:
    """Raise InvalidArgument unless ``minimum`` ≤ ``value`` ≤ ``maximum``."""
    if not minimum <= value <= maximum:
        raise InvalidArgument(
            "OUT_OF_RANGE",
            f"{path} is {value}; expected {minimum} to {maximum}.",
            field=path,
            min=minimum,
            max=maximum,
        )


def check_count(items: Sized, maximum: int, name: str) -> None:
    """Raise InvalidArgument if a request has no items of this name, or more than ``maximum``."""
    if not len(items):
        raise InvalidArgument("EMPTY_BATCH", f"{name} is empty; send at least one.", field=name)
    check_max_count(items, maximum, name)


def check_max_count(items: Sized, maximum: int, name: str) -> None:
    """Raise InvalidArgument if a message has more than ``maximum`` items of this name."""
    if len(items) > maximum:
        raise InvalidArgument(
            f"TOO_MANY_{name.upper()}",
            f"{name} has {len(items)} items; a message can have up to {maximum}.",
            field=name,
            limit=maximum,
        )


def check_collection_name(name: str, path: str) -> None:
    """Raise InvalidArgument if a collection or an alias cannot have this name."""
    if not _COLLECTION_NAME.fullmatch(name):
        raise InvalidArgument(
            "BAD_COLLECTION_NAME",
            "A collection name must have 1 to 200 letters, digits, '.', '_' or '-'.",
            field=path,
        )


def check_collection(collection: Collection) -> None:
    """Check the settings of a collection.

    Raises:
        InvalidArgument: a setting is out of range.
        FailedPrecondition: the engine does not support the settings.
    """
    check_collection_name(collection.name, "collection.name")
    check_range(collection.dimensions, 1, MAX_DIMENSIONS, "collection.dimensions")
    check_range(collection.m, 4, 512, "collection.hnsw.m")
    check_range(collection.ef_construction, 1, 10_000, "collection.hnsw.ef_construction")
    check_range(collection.ef_runtime, 1, MAX_EF, "collection.hnsw.ef_runtime")
    check_range(len(collection.fields), 0, MAX_FIELDS, "collection.fields")
    check_range(len(collection.model_digest), 0, 256, "collection.model_digest")
    check_range(
        collection.reduced_dimensions, 0, collection.dimensions, "collection.reduced_dimensions"
    )
    check_range(collection.shards, 0, MAX_SHARDS, "collection.shards")
    if collection.index == "flat" and collection.quantization != "none":
        raise InvalidArgument(
            "FLAT_IS_EXACT",
            "A flat index is exact and needs QUANTIZATION_NONE; use hnsw for quantization.",
            field="collection.quantization",
        )
    _check_engine(collection)
    if collection.index == "svs_vamana" and collection.vector_type not in ("float32", "float16"):
        raise InvalidArgument(
            "BAD_VECTOR_TYPE",
            "SVS-VAMANA supports FLOAT32 and FLOAT16.",
            field="collection.vector_type",
        )
    _check_field_names(collection.fields)


def _check_field_names(fields: Mapping[str, str]) -> None:
    for name in fields:
        if not _FIELD_NAME.fullmatch(name):
            raise InvalidArgument(
                "BAD_FIELD_NAME",
                "A field name must begin with a letter or '_' and continue with letters, digits or"
                " '_', up to 64 characters.",
                field="collection.fields",
                name=name,
            )


def _check_engine(collection: Collection) -> None:
    if collection.engine == "vector_sets":
        if collection.index == "svs_vamana" or collection.vector_type != "float32":
            raise FailedPrecondition(
                "NEEDS_QUERY_ENGINE",
                "SVS-VAMANA (Redis 8.2) and vector types other than FLOAT32 (Redis 8.0) need the"
                " Query Engine, FT.CREATE.",
                field="collection.index",
            )
        if collection.reduced_dimensions and collection.index != "hnsw":
            raise _needs_vector_sets(
                "reduced_dimensions", "reduced_dimensions needs an hnsw index."
            )
        return
    if collection.quantization != "none":
        raise _needs_vector_sets(
            "quantization",
            "Quantization needs vector sets; the Query Engine has vector_type and SVS-VAMANA.",
        )
    if collection.reduced_dimensions:
        raise _needs_vector_sets(
            "reduced_dimensions", "reduced_dimensions needs vector sets with an hnsw index."
        )
    if collection.shards > 1:
        raise _needs_vector_sets(
            "shards", "Shards need vector sets; the Query Engine distributes its indexes itself."
        )


def _needs_vector_sets(name: str, message: str) -> FailedPrecondition:
    return FailedPrecondition("NEEDS_VECTOR_SETS", message, field=f"collection.{name}")


def check_model_digest(digest: str, collection: Collection) -> None:
    """Raise FailedPrecondition if the collection's vectors come from another model."""
    if digest and collection.model_digest and digest != collection.model_digest:
        raise FailedPrecondition(
            "MODEL_MISMATCH",
            "The vectors come from a model other than the collection's. Use the model that the"
            " collection's model_digest names.",
            field="model_digest",
            collection=collection.name,
            expected=collection.model_digest,
            given=digest,
        )


def read_vector(data: bytes, collection: Collection, path: str) -> Vector:
    """Decode a little-endian float32 vector of a collection, [dimensions].

    Raises:
        InvalidArgument: the length is wrong, a number is not finite, or the metric cannot compare
            the vector.
    """
    expected = 4 * collection.dimensions
    if len(data) != expected:
        raise InvalidArgument(
            "WRONG_DIMENSIONS",
            f"The vector has {len(data)} bytes; collection {collection.name} expects"
            f" {collection.dimensions} little-endian float32 numbers, {expected} bytes.",
            field=path,
            expected_bytes=expected,
            given_bytes=len(data),
        )
    vector = np.frombuffer(data, "<f4")
    if not np.isfinite(vector).all():
        raise InvalidArgument("NOT_FINITE", "The vector contains NaN or infinity.", field=path)
    check_vector(vector, collection, path)
    return vector


def check_vector(vector: Vector, collection: Collection, path: str) -> None:
    """Raise InvalidArgument if the collection cannot compare a vector, float32 [dimensions]."""
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if collection.metric == "cosine" and norm == 0:
        raise InvalidArgument(
            "ZERO_VECTOR",
            "The vector is zero; METRIC_COSINE needs a vector with a direction.",
            field=path,
        )
    if collection.vector_type == "float16" and np.abs(vector).max() > _MAX_FLOAT16:
        raise InvalidArgument(
            "NOT_FINITE",
            f"A number is out of the range of FLOAT16, -{_MAX_FLOAT16} to {_MAX_FLOAT16}.",
            field=path,
        )
    if norm > _MAX_NORM:
        raise InvalidArgument(
            "TOO_LONG_VECTOR", "The norm of the vector must not exceed 1e15.", field=path
        )


def check_documents(documents: Sequence[Document], collection: Collection) -> None:
    """Raise InvalidArgument for a batch of documents that a collection cannot store."""
    check_count(documents, MAX_DOCUMENTS, "documents")
    seen: set[str] = set()
    for number, document in enumerate(documents):
        path = f"documents[{number}]"
        check_document(document, collection, path)
        check_unique(document.id, seen, f"{path}.id")


def check_document(document: Document, collection: Collection, path: str) -> None:
    """Raise InvalidArgument for a document that a collection cannot store."""
    check_id(document.id, f"{path}.id")
    check_fields(document.fields, collection, path)
    if not 0 <= document.ttl < 2**31:
        raise InvalidArgument(
            "BAD_TTL",
            "ttl must be 0 (the document never expires) to 2147483647 seconds.",
            field=f"{path}.ttl",
        )


def check_unique(key: str, seen: set[str], path: str) -> None:
    """Raise InvalidArgument if ``seen`` contains the id, and add it otherwise."""
    if key in seen:
        raise InvalidArgument(
            "DUPLICATE_ID", "The request contains this id more than once.", field=path, id=key
        )
    seen.add(key)


def check_fields(fields: Mapping[str, Value], collection: Collection, path: str) -> None:
    """Raise InvalidArgument for a field that is not declared, or a value of another type."""
    for name, value in fields.items():
        declared = collection.fields.get(name)
        if declared is None:
            raise InvalidArgument(
                "UNDECLARED_FIELD",
                f"Collection {collection.name} does not declare this field.",
                field=f"{path}.fields",
                name=name,
            )
        if not _has_type(value, declared):
            raise InvalidArgument(
                "WRONG_FIELD_TYPE",
                f"The value does not match the type of the field, {declared.upper()}.",
                field=f"{path}.fields",
                name=name,
                type=declared,
            )


def _has_type(value: Any, field_type: str) -> bool:
    if field_type == "number":
        return isinstance(value, float) and isfinite(value)
    if field_type == "geo":
        return isinstance(value, GeoPoint) and value.is_on_earth()
    return isinstance(value, str) or (field_type == "tag" and isinstance(value, tuple))


def check_id(key: str, path: str) -> None:
    """Raise InvalidArgument if a document cannot have this id."""
    if not 0 < len(key.encode()) <= MAX_ID_BYTES:
        raise InvalidArgument(
            "BAD_ID", f"A document id must have 1 to {MAX_ID_BYTES} bytes.", field=path
        )


def check_ids(ids: Sequence[str]) -> None:
    """Raise InvalidArgument for an empty or too long list of ids, or an id that is not valid."""
    check_count(ids, MAX_IDS, "ids")
    for number, key in enumerate(ids):
        check_id(key, f"ids[{number}]")


def page_size(requested: int) -> int:
    """Return the number of entries of a page. Raises InvalidArgument if it is negative."""
    if requested < 0:
        raise InvalidArgument(
            "BAD_PAGE_SIZE", "page_size must be 0 (the default) or more.", field="page_size"
        )
    return min(requested or _DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
