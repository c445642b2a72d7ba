"""Translates queries, filters and results between messages and plain data, and checks."""

from collections.abc import Sequence
from typing import Any

from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.search import filters
from services.search.filters import Condition, Place
from services.search.messages import engine_number, named, write_value
from services.search.types import Collection, Hit, Query, Result, check_id, check_name, read_vector

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
        op = named(_OPERATORS, number.op, f"{place}.number.op")
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
        group_by=message.group_by.field,
        group_hits=message.group_by.hits or 1,
    )
    if message.HasField("group_by") and not query.group_by:
        raise InvalidArgument(
            "BAD_GROUP_FIELD", "Name the field to group by.", field=f"{place}.group_by.field"
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
        "fusion": named(_FUSIONS, hybrid.fusion, f"{place}.hybrid.fusion"),
        "vector_weight": hybrid.vector_weight if hybrid.HasField("vector_weight") else weight,
        "rrf_constant": hybrid.rrf_constant if hybrid.HasField("rrf_constant") else constant,
        "depth": hybrid.depth or default.depth,
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
                engine=engine_number(query.collection),
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
        fields={name: write_value(item) for name, item in value.fields.items()},
        vector=value.vector,
        text=value.text,
        payload=value.payload,
        group=None if value.group is None else write_value(value.group),
    )
