"""Translates documents and their fields between protobuf messages and plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.search.filters import GeoPoint, Value
from services.search.types import Collection, Document
from services.search.updates import FieldsUpdate
from services.search.upsert_stream import Receipt
from services.search.validation import MAX_DOCUMENTS, check_id, check_unique, read_vector

QUANTIZATIONS = {
    search_pb2.QUANTIZATION_UNSPECIFIED: "none",
    search_pb2.QUANTIZATION_NONE: "none",
    search_pb2.QUANTIZATION_Q8: "q8",
    search_pb2.QUANTIZATION_BINARY: "binary",
}


def read_enum(names: Mapping[Any, str], number: int, path: str) -> str:
    """Return the name of an enum's number. Raises InvalidArgument for an unknown number."""
    if number not in names:
        raise InvalidArgument(
            f"UNKNOWN_{path.rpartition('.')[2].upper()}",
            f"{path} has the unknown value {number}.",
            field=path,
            value=number,
        )
    return names[number]


def read_document(message: search_pb2.Document, collection: Collection, path: str) -> Document:
    """Read a document to write. Raises InvalidArgument for a vector or value that is not valid."""
    return Document(
        id=message.id,
        vector=read_vector(message.vector, collection, f"{path}.vector"),
        fields=read_values(message.fields, f"{path}.fields"),
        text=message.text,
        payload=message.payload,
        ttl=message.ttl,
    )


def read_documents(
    messages: Sequence[search_pb2.Document], collection: Collection
) -> list[Document]:
    """Read documents to write. Raises InvalidArgument for one that is not valid."""
    return [
        read_document(message, collection, f"documents[{number}]")
        for number, message in enumerate(messages)
    ]


def write_document(value: Document, *, with_vector: bool) -> search_pb2.Document:
    """Write a document, with or without its vector."""
    return search_pb2.Document(
        id=value.id,
        vector=value.vector.astype("<f4").tobytes() if with_vector else b"",
        fields={name: write_value(item) for name, item in value.fields.items()},
        text=value.text,
        payload=value.payload,
        ttl=value.ttl,
    )


def read_values(messages: Mapping[str, search_pb2.FieldValue], path: str) -> dict[str, Value]:
    """Read the fields of a document. Raises InvalidArgument for a field without a value."""
    return {name: _read_value(message, path) for name, message in messages.items()}


def _read_value(message: search_pb2.FieldValue, path: str) -> Value:
    kind = message.WhichOneof("value")
    if kind == "geo":
        return GeoPoint(message.geo.lat, message.geo.lon)
    if kind == "strings":
        return tuple(message.strings.values)
    if kind == "string":
        return message.string
    if kind is None:
        raise InvalidArgument(
            "EMPTY_VALUE", "A field has no value; set a value or leave the field out.", field=path
        )
    return message.number


def write_value(value: Value) -> search_pb2.FieldValue:
    """Write a field's value."""
    if isinstance(value, GeoPoint):
        return search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=value.lat, lon=value.lon))
    if isinstance(value, tuple):
        return search_pb2.FieldValue(strings=search_pb2.Strings(values=value))
    if isinstance(value, str):
        return search_pb2.FieldValue(string=value)
    return search_pb2.FieldValue(number=value)


def read_updates(messages: Sequence[search_pb2.FieldsUpdate]) -> list[FieldsUpdate]:
    """Read updates of fields. Raises InvalidArgument."""
    if not 0 < len(messages) <= MAX_DOCUMENTS:
        raise InvalidArgument(
            "BAD_BATCH",
            f"The request has {len(messages)} updates; expected 1 to {MAX_DOCUMENTS}.",
            field="updates",
        )
    seen: set[str] = set()
    updates = []
    for number, message in enumerate(messages):
        path = f"updates[{number}]"
        check_id(message.id, f"{path}.id")
        check_unique(message.id, seen, f"{path}.id")
        fields = read_values(message.fields, f"{path}.fields")
        updates.append(FieldsUpdate(message.id, fields, tuple(message.remove)))
    return updates


def write_receipt(value: Receipt) -> search_pb2.Receipt:
    """Write the outcome for a document of a stream."""
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


def write_quantization(name: str) -> Any:
    """Return the enum number of a quantization."""
    return search_pb2.Quantization.Value(f"QUANTIZATION_{name.upper()}")
