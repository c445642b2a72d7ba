"""Translates between the search service's messages and its core's plain data, and checks."""

from collections.abc import Mapping, Sequence
from typing import Any

from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.search.engines.connection import Server
from services.search.filters import Place, Value
from services.search.service import Described
from services.search.tuning import Measurement, Setting
from services.search.types import DOCUMENTS_LIMIT, Collection, Document, check_id, read_vector
from services.search.updates import FieldsUpdate
from services.search.upsert_stream import Receipt
from services.search.validation import check_new

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


def named(table: Mapping[Any, str], number: int, place: str) -> str:
    """Return what a number of an enum stands for. Raises InvalidArgument."""
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
    default = Collection("", 1)
    return Collection(
        name=message.name,
        dimensions=message.dimensions,
        metric=named(_METRICS, message.metric, "collection.metric"),
        quantization=named(_QUANTIZATIONS, message.quantization, "collection.quantization"),
        fields=read_declared(message.fields, "collection.fields"),
        model_digest=message.model_digest,
        engine=named(_ENGINES, message.engine, "collection.engine"),
        vector_type=named(_VECTOR_TYPES, message.vector_type, "collection.vector_type"),
        index_text=message.index_text if message.HasField("index_text") else default.index_text,
        reduced=message.reduced_dimensions,
        shards=message.shards,
        **_index(message),
    )


def read_declared(messages: Sequence[search_pb2.Field], place: str) -> dict[str, str]:
    """Read declared fields. Raises InvalidArgument."""
    seen: set[str] = set()
    fields = {}
    for message in messages:
        if message.name in seen:
            raise InvalidArgument("DUPLICATE_FIELD", "Two fields have one name.", field=place)
        seen.add(message.name)
        fields[message.name] = named(_FIELD_TYPES, message.type, f"{place}.type")
    return fields


def read_reindex(message: search_pb2.ReindexRequest) -> dict[str, Any]:
    """Read what an index is to be, by attributes of Collection. Raises InvalidArgument."""
    changes = _index(message) if message.WhichOneof("index") else {}
    if message.metric:
        changes["metric"] = named(_METRICS, message.metric, "metric")
    if message.vector_type:
        changes["vector_type"] = named(_VECTOR_TYPES, message.vector_type, "vector_type")
    if message.quantization:
        changes["quantization"] = named(_QUANTIZATIONS, message.quantization, "quantization")
    return changes


def _index(message: search_pb2.Collection | search_pb2.ReindexRequest) -> dict[str, Any]:
    """Read an index; one that is not named is HNSW."""
    hnsw = message.hnsw
    return {
        "index": message.WhichOneof("index") or "hnsw",
        "m": hnsw.m,
        "ef_construction": hnsw.ef_construction,
        "ef_runtime": hnsw.ef_runtime,
        "svs": _svs(message.svs_vamana),
    }


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
        engine=engine_number(collection),
        index_text=collection.index_text,
        document_count=value.count,
        aliases=value.aliases,
        reduced_dimensions=collection.reduced,
        shards=collection.shards,
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


def engine_number(collection: Collection) -> Any:
    """Return the number of a collection's engine."""
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


def read_document(message: search_pb2.Document, collection: Collection, place: str) -> Document:
    """Read a document to write. Raises InvalidArgument for a vector or value that does not fit."""
    return Document(
        id=message.id,
        vector=read_vector(message.vector, collection, f"{place}.vector"),
        fields=read_values(message.fields, f"{place}.fields"),
        text=message.text,
        payload=message.payload,
        ttl=message.ttl,
    )


def read_documents(
    messages: Sequence[search_pb2.Document], collection: Collection
) -> list[Document]:
    """Read documents to write. Raises InvalidArgument for one that does not fit."""
    return [
        read_document(message, collection, f"documents[{number}]")
        for number, message in enumerate(messages)
    ]


def write_document(value: Document, *, with_vector: bool) -> search_pb2.Document:
    """Write a document, with its vector if asked to."""
    return search_pb2.Document(
        id=value.id,
        vector=value.vector.astype("<f4").tobytes() if with_vector else b"",
        fields={name: write_value(item) for name, item in value.fields.items()},
        text=value.text,
        payload=value.payload,
        ttl=value.ttl,
    )


def read_values(messages: Mapping[str, search_pb2.FieldValue], place: str) -> dict[str, Value]:
    """Read the fields of a document. Raises InvalidArgument."""
    return {name: _read_value(message, place) for name, message in messages.items()}


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


def write_value(value: Value) -> search_pb2.FieldValue:
    """Write a field's value."""
    if isinstance(value, Place):
        return search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=value.lat, lon=value.lon))
    if isinstance(value, tuple):
        return search_pb2.FieldValue(strings=search_pb2.Strings(values=value))
    if isinstance(value, str):
        return search_pb2.FieldValue(string=value)
    return search_pb2.FieldValue(number=value)


def read_updates(messages: Sequence[search_pb2.FieldsUpdate]) -> list[FieldsUpdate]:
    """Read changes of fields. Raises InvalidArgument."""
    if not 0 < len(messages) <= DOCUMENTS_LIMIT:
        raise InvalidArgument(
            "BAD_BATCH", f"A request has 1 to {DOCUMENTS_LIMIT} updates.", field="updates"
        )
    seen: set[str] = set()
    updates = []
    for number, message in enumerate(messages):
        place = f"updates[{number}]"
        check_id(message.id, f"{place}.id")
        check_new(message.id, seen, f"{place}.id")
        fields = read_values(message.fields, f"{place}.fields")
        updates.append(FieldsUpdate(message.id, fields, tuple(message.remove)))
    return updates


def write_receipt(value: Receipt) -> search_pb2.Receipt:
    """Write what became of a document."""
    failure = value.failure
    if failure is None:
        created, updated = search_pb2.UPSERT_STATUS_CREATED, search_pb2.UPSERT_STATUS_UPDATED
        return search_pb2.Receipt(id=value.id, status=created if value.created else updated)
    return search_pb2.Receipt(
        id=value.id,
        status=search_pb2.UPSERT_STATUS_FAILED,
        code=failure.code.value[0],
        reason=failure.reason,
        message=failure.message,
    )


def read_grid(message: search_pb2.TuneIndexRequest) -> list[Setting]:
    """Read the indexes to try, the numbers of candidates left out. Raises InvalidArgument."""
    kinds = [named(_QUANTIZATIONS, one, "quantization") for one in message.quantization]
    return [
        Setting(m, ef_construction, 0, kind)
        for kind in kinds or ("none",)
        for m in message.m or (8, 16, 32)
        for ef_construction in message.ef_construction or (200,)
    ]


def write_measurement(value: Measurement) -> search_pb2.Measurement:
    """Write what a setting gives."""
    kind = search_pb2.Quantization.Value(f"QUANTIZATION_{value.setting.quantization.upper()}")
    return search_pb2.Measurement(
        setting=search_pb2.IndexSetting(
            m=value.setting.m,
            ef_construction=value.setting.ef_construction,
            ef_runtime=value.setting.ef_runtime,
            quantization=kind,
        ),
        recall=value.recall,
        p50=value.p50,
        p99=value.p99,
        documents_per_second=value.rate,
        memory_bytes=value.memory,
    )
