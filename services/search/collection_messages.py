"""Translates collections and servers between protobuf messages and plain data."""

from collections.abc import Sequence
from typing import Any

from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.search.engines.server import Server
from services.search.messages import QUANTIZATIONS, read_enum, write_quantization
from services.search.types import Collection, CollectionInfo

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


def read_collection(message: search_pb2.Collection) -> Collection:
    """Read a collection to create. Raises InvalidArgument."""
    return Collection(
        name=message.name,
        dimensions=message.dimensions,
        metric=read_enum(_METRICS, message.metric, "collection.metric"),
        quantization=read_enum(QUANTIZATIONS, message.quantization, "collection.quantization"),
        fields=read_declared_fields(message.fields, "collection.fields"),
        model_digest=message.model_digest,
        engine=read_enum(_ENGINES, message.engine, "collection.engine"),
        vector_type=read_enum(_VECTOR_TYPES, message.vector_type, "collection.vector_type"),
        index_text=message.index_text if message.HasField("index_text") else True,
        reduced_dimensions=message.reduced_dimensions,
        shards=message.shards,
        **_read_index(message),
    )


def read_declared_fields(messages: Sequence[search_pb2.Field], path: str) -> dict[str, str]:
    """Read declared fields and their types. Raises InvalidArgument."""
    fields: dict[str, str] = {}
    for message in messages:
        if message.name in fields:
            raise InvalidArgument(
                "DUPLICATE_FIELD",
                "Two fields have the same name; declare each field once.",
                field=path,
                name=message.name,
            )
        fields[message.name] = read_enum(_FIELD_TYPES, message.type, f"{path}.type")
    return fields


def read_reindex(message: search_pb2.ReindexRequest) -> dict[str, Any]:
    """Read the changes to an index, by attributes of Collection. Raises InvalidArgument."""
    changes = _read_index(message) if message.WhichOneof("index") else {}
    if message.metric:
        changes["metric"] = read_enum(_METRICS, message.metric, "metric")
    if message.vector_type:
        changes["vector_type"] = read_enum(_VECTOR_TYPES, message.vector_type, "vector_type")
    if message.quantization:
        changes["quantization"] = read_enum(QUANTIZATIONS, message.quantization, "quantization")
    return changes


def _read_index(message: search_pb2.Collection | search_pb2.ReindexRequest) -> dict[str, Any]:
    """Read an index; the default is HNSW."""
    hnsw = message.hnsw
    return {
        "index": message.WhichOneof("index") or "hnsw",
        "m": hnsw.m,
        "ef_construction": hnsw.ef_construction,
        "ef_runtime": hnsw.ef_runtime,
        "svs": _read_svs(message.svs_vamana),
    }


def _read_svs(message: search_pb2.SvsVamanaIndex) -> dict[str, str | int]:
    """Read the options of SVS-VAMANA that are set."""
    options: dict[str, str | int] = {
        "COMPRESSION": message.compression,
        "GRAPH_MAX_DEGREE": message.graph_max_degree,
        "CONSTRUCTION_WINDOW_SIZE": message.construction_window_size,
        "SEARCH_WINDOW_SIZE": message.search_window_size,
    }
    if message.compression not in _COMPRESSIONS or any(
        isinstance(value, int) and value < 0 for value in options.values()
    ):
        raise InvalidArgument(
            "BAD_SVS_VAMANA",
            f"compression must be empty or one of {', '.join(sorted(_COMPRESSIONS - {''}))}; sizes"
            " must be 0 or more.",
            field="collection.svs_vamana",
        )
    return {name: value for name, value in options.items() if value}


def write_collection(value: CollectionInfo) -> search_pb2.Collection:
    """Write a collection with its numbers."""
    collection = value.collection
    message = search_pb2.Collection(
        name=collection.name,
        dimensions=collection.dimensions,
        metric=search_pb2.Metric.Value(f"METRIC_{collection.metric.upper()}"),
        vector_type=search_pb2.VectorType.Value(f"VECTOR_TYPE_{collection.vector_type.upper()}"),
        quantization=write_quantization(collection.quantization),
        fields=[
            search_pb2.Field(
                name=name, type=search_pb2.FieldType.Value(f"FIELD_TYPE_{field_type.upper()}")
            )
            for name, field_type in collection.fields.items()
        ],
        model_digest=collection.model_digest,
        engine=write_engine(collection),
        index_text=collection.index_text,
        document_count=value.count,
        aliases=value.aliases,
        reduced_dimensions=collection.reduced_dimensions,
        shards=collection.shards,
        health=search_pb2.IndexHealth(
            ready=value.ready,
            memory_bytes=value.memory,
            warnings=value.warnings,
            max_norm=value.max_norm,
        ),
    )
    _write_index(collection, message)
    return message


def _write_index(collection: Collection, message: search_pb2.Collection) -> None:
    if collection.index == "flat":
        message.flat.SetInParent()
    elif collection.index == "svs_vamana":
        message.svs_vamana.SetInParent()
        for name, value in collection.svs.items():
            setattr(message.svs_vamana, name.lower(), value)
    else:
        message.hnsw.m = collection.m
        message.hnsw.ef_construction = collection.ef_construction
        message.hnsw.ef_runtime = collection.ef_runtime


def write_engine(collection: Collection) -> Any:
    """Return the enum number of a collection's engine."""
    return search_pb2.Engine.Value(f"ENGINE_{collection.engine.upper()}")


def write_server(value: Server) -> search_pb2.Server:
    """Write the capabilities of the server."""
    return search_pb2.Server(
        version=value.version,
        vector_sets=value.vector_sets,
        query_engine=value.query_engine,
        hybrid=value.hybrid,
        warnings=value.warnings,
    )
