"""Translates field values, field types and metrics to the messages of search and back."""

from memetwin.search.v1 import search_pb2
from services.gateway.backends.types import Value

METRIC_NUMBERS = {
    "cosine": search_pb2.METRIC_COSINE,
    "ip": search_pb2.METRIC_IP,
    "l2": search_pb2.METRIC_L2,
}
FIELD_TYPES = {
    "number": search_pb2.FIELD_TYPE_NUMBER,
    "tag": search_pb2.FIELD_TYPE_TAG,
    "geo": search_pb2.FIELD_TYPE_GEO,
}


def to_field(value: Value) -> search_pb2.FieldValue:
    """Return the message of a field value."""
    if isinstance(value, str):
        return search_pb2.FieldValue(string=value)
    if isinstance(value, list):
        return search_pb2.FieldValue(strings=search_pb2.Strings(values=value))
    if isinstance(value, dict):
        return search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=value["lat"], lon=value["lon"]))
    return search_pb2.FieldValue(number=value)


def from_field(message: search_pb2.FieldValue) -> Value:
    """Return the field value of a message."""
    if message.WhichOneof("value") == "geo":
        return {"lat": message.geo.lat, "lon": message.geo.lon}
    if message.WhichOneof("value") == "strings":
        return list(message.strings.values)
    if message.WhichOneof("value") == "string":
        return message.string
    return message.number
