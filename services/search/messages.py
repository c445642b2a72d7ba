"""Translates between the search service's messages and its core's plain data, and checks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.search import filters
from services.search.collections import Described
from services.search.engines.connection import Server
from services.search.filters import Condition, Place, Value
from services.search.schema import (
    Collection,
    Document,
    Hit,
    Query,
    Result,
    check_id,
    check_name,
    read_vector,
)

_METRICS = {
    search_pb2.METRIC_UNSPECIFIED: "cosine",
    search_pb2.METRIC_COSINE: "cosine",
    search_pb2.METRIC_IP: "ip",
    search_pb2.METRIC_L2: "l2",
}
_FIELD_TYPES = {
    search_pb2.FIELD_TYPE_NUMBER: "number",
    search_pb2.FIELD_TYPE_TAG: "tag",
    search_pb2.FIELD_TYPE_TEXT: "text",
    search_pb2.FIELD_TYPE_GEO: "geo",
}
_QUANTIZATIONS = {
    search_pb2.QUANTIZATION_UNSPECIFIED: "none",
    search_pb2.QUANTIZATION_NONE: "none",
    search_pb2.QUANTIZATION_Q8: "q8",
    search_pb2.QUANTIZATION_BINARY: "binary",
}
_ENGINES = {
    search_pb2.ENGINE_UNSPECIFIED: "",
    search_pb2.ENGINE_QUERY_ENGINE: "query_engine",
    search_pb2.ENGINE_VECTOR_SETS: "vector_sets",
}
_VECTOR_TYPES = {
    search_pb2.VECTOR_TYPE_UNSPECIFIED: "float32",
    search_pb2.VECTOR_TYPE_FLOAT32: "float32",
    search_pb2.VECTOR_TYPE_FLOAT16: "float16",
    search_pb2.VECTOR_TYPE_BFLOAT16: "bfloat16",
    search_pb2.VECTOR_TYPE_INT8: "int8",
}
_COMPRESSIONS = {"", "LVQ8", "LVQ4", "LVQ4x4", "LVQ4x8", "LeanVec4x8", "LeanVec8x8"}
_FUSIONS = {
    search_pb2.FUSION_UNSPECIFIED: "linear",
    search_pb2.FUSION_LINEAR: "linear",
    search_pb2.FUSION_RRF: "rrf",
}
_OPERATORS = {
    search_pb2.NUMBER_OPERATOR_EQ: "eq",
    search_pb2.NUMBER_OPERATOR_NE: "ne",
    search_pb2.NUMBER_OPERATOR_LT: "lt",
    search_pb2.NUMBER_OPERATOR_LE: "le",
    search_pb2.NUMBER_OPERATOR_GT: "gt",
    search_pb2.NUMBER_OPERATOR_GE: "ge",
    search_pb2.NUMBER_OPERATOR_BETWEEN: "between",
    search_pb2.NUMBER_OPERATOR_IN: "in",
}


def _named(table: Mapping[Any, str], number: int, place: str) -> str:
    if number not in table:
        raise InvalidArgument(
            f"UNKNOWN_{place.rpartition('.')[2].upper()}",
            f"{place} has no such value.",
            field=place,
            value=number,
        )
    return table[number]


def read_collection(message: search_pb2.Collection) -> Collection:
    """Read a collection to create. Raises InvalidArgument or FailedPrecondition."""
    names = [field.name for field in message.fields]
    if len(set(names)) < len(names):
        raise InvalidArgument(
            "DUPLICATE_FIELD", "Two fields have one name.", field="collection.fields"
        )
    hnsw, default = message.hnsw, Collection("", 1)
    return Collection(
        name=message.name,
        dimensions=message.dimensions,
        metric=_named(_METRICS, message.metric, "collection.metric"),
        index=message.WhichOneof("index") or "hnsw",
        m=hnsw.m,
        ef_construction=hnsw.ef_construction or default.ef_construction,
        ef_runtime=hnsw.ef_runtime,
        quantization=_named(_QUANTIZATIONS, message.quantization, "collection.quantization"),
        fields={
            field.name: _named(_FIELD_TYPES, field.type, "collection.fields.type")
            for field in message.fields
        },
        model_digest=message.model_digest,
        engine=_named(_ENGINES, message.engine, "collection.engine"),
        vector_type=_named(_VECTOR_TYPES, message.vector_type, "collection.vector_type"),
        svs=_svs(message.svs_vamana),
        index_text=message.index_text if message.HasField("index_text") else default.index_text,
    )


def _svs(message: search_pb2.SvsVamanaIndex) -> dict[str, str | int]:
    """Read the settings of SVS-VAMANA that were given."""
    settings: dict[str, str | int] = {
        "COMPRESSION": message.compression,
        "GRAPH_MAX_DEGREE": message.graph_max_degree,
        "CONSTRUCTION_WINDOW_SIZE": message.construction_window_size,
        "SEARCH_WINDOW_SIZE": message.search_window_size,
    }
    if message.compression not in _COMPRESSIONS or any(
        isinstance(value, int) and value < 0 for value in settings.values()
    ):
        raise InvalidArgument(
            "BAD_SVS_VAMANA",
            f"compression is one of {', '.join(sorted(_COMPRESSIONS))}; sizes are 0 or more.",
            field="collection.svs_vamana",
        )
    return {name: value for name, value in settings.items() if value}


def write_collection(value: Described) -> search_pb2.Collection:
    """Write a collection with its numbers."""
    collection = value.collection
    message = search_pb2.Collection(
        name=collection.name,
        dimensions=collection.dimensions,
        metric=search_pb2.Metric.Value(f"METRIC_{collection.metric.upper()}"),
        vector_type=search_pb2.VectorType.Value(f"VECTOR_TYPE_{collection.vector_type.upper()}"),
        quantization=search_pb2.Quantization.Value(
            f"QUANTIZATION_{collection.quantization.upper()}"
        ),
        fields=[
            search_pb2.Field(
                name=name, type=search_pb2.FieldType.Value(f"FIELD_TYPE_{kind.upper()}")
            )
            for name, kind in collection.fields.items()
        ],
        model_digest=collection.model_digest,
        engine=_engine(collection),
        index_text=collection.index_text,
        document_count=value.count,
        health=search_pb2.IndexHealth(
            ready=value.ready,
            memory_bytes=value.memory,
            warnings=value.warnings,
            max_norm=value.max_norm,
        ),
    )
    if collection.index == "flat":
        message.flat.SetInParent()
    elif collection.index == "svs_vamana":
        message.svs_vamana.SetInParent()
        for name, setting in collection.svs.items():
            setattr(message.svs_vamana, name.lower(), setting)
    else:
        message.hnsw.m = collection.m
        message.hnsw.ef_construction = collection.ef_construction
        message.hnsw.ef_runtime = collection.ef_runtime
    return message


def _engine(collection: Collection) -> Any:
    return search_pb2.Engine.Value(f"ENGINE_{collection.engine.upper()}")


def write_server(value: Server) -> search_pb2.Server:
    """Write what the server is."""
    return search_pb2.Server(
        version=value.version,
        vector_sets=value.vector_sets,
        query_engine=value.query_engine,
        hybrid=value.hybrid,
        warnings=value.warnings,
    )


def read_documents(
    messages: Iterable[search_pb2.Document], collection: Collection
) -> list[Document]:
    """Read documents to write. Raises InvalidArgument for a vector that does not fit."""
    return [
        Document(
            id=message.id,
            vector=read_vector(message.vector, collection, f"documents[{number}].vector"),
            fields={
                name: _read_value(value, f"documents[{number}].fields")
                for name, value in message.fields.items()
            },
            text=message.text,
            payload=message.payload,
            ttl=message.ttl,
        )
        for number, message in enumerate(messages)
    ]


def write_document(value: Document, *, with_vector: bool) -> search_pb2.Document:
    """Write a document, with its vector if asked to."""
    return search_pb2.Document(
        id=value.id,
        vector=value.vector.astype("<f4").tobytes() if with_vector else b"",
        fields={name: _write_value(item) for name, item in value.fields.items()},
        text=value.text,
        payload=value.payload,
        ttl=value.ttl,
    )


def _read_value(message: search_pb2.FieldValue, place: str) -> Value:
    kind = message.WhichOneof("value")
    if kind == "geo":
        return Place(message.geo.lat, message.geo.lon)
    if kind == "strings":
        return tuple(message.strings.values)
    if kind == "string":
        return message.string
    if kind is None:
        raise InvalidArgument("EMPTY_VALUE", "A field has no value: leave it out.", field=place)
    return message.number


def _write_value(value: Value) -> search_pb2.FieldValue:
    if isinstance(value, Place):
        return search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=value.lat, lon=value.lon))
    if isinstance(value, tuple):
        return search_pb2.FieldValue(strings=search_pb2.Strings(values=value))
    if isinstance(value, str):
        return search_pb2.FieldValue(string=value)
    return search_pb2.FieldValue(number=value)


def read_filter(message: search_pb2.Filter, place: str, depth: int = 0) -> Condition | None:
    """Read a filter; None for an empty one. Raises InvalidArgument."""
    kind = message.WhichOneof("condition")
    if kind is None:
        if depth:
            raise InvalidArgument("EMPTY_FILTER", "A nested condition is empty.", field=place)
        return None
    if depth > filters.DEPTH_LIMIT:
        raise InvalidArgument(
            "FILTER_TOO_DEEP", f"A filter nests at most {filters.DEPTH_LIMIT} deep.", field=place
        )
    if kind in ("all_of", "any_of", "none_of"):
        members = getattr(message, kind).filters
        read = [read_filter(member, place, depth + 1) for member in members]
        return filters.Group(kind, tuple(member for member in read if member))
    return _read_leaf(message, kind, place)


def _read_leaf(message: search_pb2.Filter, kind: str, place: str) -> Condition:
    if kind == "number":
        number = message.number
        op = _named(_OPERATORS, number.op, f"{place}.number.op")
        return filters.Number(number.field, op, tuple(number.values))
    if kind == "tag":
        return filters.Tag(message.tag.field, tuple(message.tag.any_of))
    if kind == "text":
        return filters.Text(message.text.field, message.text.matches)
    if kind == "geo":
        centre = Place(message.geo.centre.lat, message.geo.centre.lon)
        return filters.Geo(message.geo.field, centre, message.geo.radius_m)
    return filters.Exists(message.exists.field)


def read_query(message: search_pb2.Query, collection: Collection, place: str) -> Query:
    """Read a query to a collection and check it. Raises InvalidArgument or FailedPrecondition."""
    by = message.WhichOneof("by")
    if by is None:
        raise InvalidArgument(
            "EMPTY_QUERY",
            "Say what to look for: vector, document_id, text, hybrid or everything.",
            field=place,
        )
    if by == "document_id":
        check_id(message.document_id, f"{place}.document_id")
    condition = read_filter(message.filter, f"{place}.filter")
    if condition:
        filters.check(condition, collection.fields, f"{place}.filter")
    query = Query(
        collection=collection,
        **_asked(message, collection, place),
        document_id=message.document_id,
        condition=condition,
        limit=message.limit or 10,
        offset=message.offset,
        min_similarity=message.min_similarity if message.HasField("min_similarity") else None,
        exact=message.exact,
        ef=message.ef,
        return_fields=_return_fields(message, collection, place),
        return_vector=message.return_vector,
        return_text=message.return_text,
        explain=message.explain,
    )
    query.check(place)
    return query


def _asked(message: search_pb2.Query, collection: Collection, place: str) -> dict[str, Any]:
    """Read the vector and the words of a query, and how they are joined."""
    by = message.WhichOneof("by")
    if by == "vector":
        return {"vector": read_vector(message.vector, collection, f"{place}.vector")}
    if by == "text":
        return {"text": message.text or " "}
    if by != "hybrid":
        return {}
    hybrid, default = message.hybrid, Query(collection)
    weight, constant = default.vector_weight, default.rrf_constant
    return {
        "vector": read_vector(hybrid.vector, collection, f"{place}.hybrid.vector"),
        "text": hybrid.text or " ",
        "fusion": _named(_FUSIONS, hybrid.fusion, f"{place}.hybrid.fusion"),
        "vector_weight": hybrid.vector_weight if hybrid.HasField("vector_weight") else weight,
        "rrf_constant": hybrid.rrf_constant if hybrid.HasField("rrf_constant") else constant,
    }


def _return_fields(
    message: search_pb2.Query, collection: Collection, place: str
) -> frozenset[str] | None:
    if message.return_no_fields:
        return frozenset()
    for name in message.return_fields:
        if name not in collection.fields:
            raise InvalidArgument(
                "UNDECLARED_FIELD",
                "return_fields names a field that the collection does not declare.",
                field=f"{place}.return_fields",
                name=name,
            )
    return frozenset(message.return_fields) or None


def collection_of(message: search_pb2.Query, default: str, place: str) -> str:
    """Return the name of the collection that a query asks. Raises InvalidArgument for none."""
    name = message.collection or default
    check_name(name, f"{place}.collection" if message.collection else "collection")
    return name


def write_results(queries: Sequence[Query], values: Sequence[Result]) -> search_pb2.SearchResponse:
    """Write the results of a request."""
    return search_pb2.SearchResponse(
        results=[
            search_pb2.Result(
                hits=map(_write_hit, value.hits),
                engine=_engine(query.collection),
                took=value.took,
                partial=bool(value.partial_reason),
                partial_reason=value.partial_reason,
                explanation=value.explanation,
            )
            for query, value in zip(queries, values, strict=True)
        ]
    )


def _write_hit(value: Hit) -> search_pb2.Hit:
    return search_pb2.Hit(
        id=value.id,
        similarity=value.similarity,
        distance=value.distance,
        text_score=value.text_score,
        score=value.score,
        fields={name: _write_value(item) for name, item in value.fields.items()},
        vector=value.vector,
        text=value.text,
        payload=value.payload,
    )
