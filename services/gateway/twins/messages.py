"""Translates between TwinService's messages and its plain data."""

from memetwin.gateway.v1 import twin_pb2
from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.gateway.backends import fields
from services.gateway.twins.types import Twin, TwinResults

_METRICS = {number: name for name, number in fields.METRIC_NUMBERS.items()} | {
    search_pb2.METRIC_UNSPECIFIED: "cosine"
}


def read_metric(number: int) -> str:
    """Return the name of a metric. Raises InvalidArgument for an unknown number."""
    if number not in _METRICS:
        raise InvalidArgument(
            "UNKNOWN_METRIC", "metric must be COSINE, IP or L2.", field="metric", metric=number
        )
    return _METRICS[number]  # type: ignore[index]


def write_twin(value: Twin) -> twin_pb2.Twin:
    """Return the message of a twin."""
    return twin_pb2.Twin(
        id=value.id,
        title=value.title,
        similarity=value.similarity,
        distance=value.distance,
        tags=value.tags,
        media_type=value.media_type,
        digest=value.digest,
        source=value.source,
    )


def write_results(value: TwinResults, *, total: float) -> twin_pb2.FindTwinResponse:
    """Return the response with results; ``total`` is the duration of the call in seconds."""
    return twin_pb2.FindTwinResponse(
        twins=map(write_twin, value.twins),
        model=value.model,
        model_digest=value.model_digest,
        timings=twin_pb2.TwinTimings(embed=value.embed, search=value.search, total=total),
    )
