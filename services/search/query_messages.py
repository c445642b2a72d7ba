"""Translates filters, queries and results between protobuf messages and plain data."""

import asyncio
from collections.abc import Sequence
from typing import Any

from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.search.collection_messages import write_engine
from services.search.filters import (
    MAX_DEPTH,
    Condition,
    ConditionGroup,
    ExistsCondition,
    GeoCondition,
    GeoPoint,
    NumberCondition,
    TagCondition,
    TextCondition,
    check_filter,
)
from services.search.listing import MAX_RESPONSE_BYTES, too_large
from services.search.messages import read_enum, write_value
from services.search.query_validation import check_queries, check_query
from services.search.types import Collection, Hit, Query, Result
from services.search.validation import check_collection_name, check_id, read_vector

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


def read_filter(message: search_pb2.Filter, path: str, depth: int = 0) -> Condition | None:
    """Read a filter; None if it is empty. Raises InvalidArgument."""
    kind = message.WhichOneof("condition")
    if kind is None:
        if depth:
            raise InvalidArgument(
                "EMPTY_FILTER", "A nested condition is empty; set one or remove it.", field=path
            )
        return None
    if depth > MAX_DEPTH:
        raise InvalidArgument(
            "FILTER_TOO_DEEP", f"A filter can be nested up to {MAX_DEPTH} levels deep.", field=path
        )
    if kind in ("all_of", "any_of", "none_of"):
        members = [
            read_filter(member, path, depth + 1) for member in getattr(message, kind).filters
        ]
        return ConditionGroup(kind, tuple(member for member in members if member))
    return _read_leaf(message, kind, path)


def _read_leaf(message: search_pb2.Filter, kind: str, path: str) -> Condition:
    if kind == "number":
        number = message.number
        operator = read_enum(_OPERATORS, number.op, f"{path}.number.op")
        return NumberCondition(number.field, operator, tuple(number.values))
    if kind == "tag":
        return TagCondition(message.tag.field, tuple(message.tag.any_of))
    if kind == "text":
        return TextCondition(message.text.field, message.text.matches)
    if kind == "geo":
        centre = GeoPoint(message.geo.centre.lat, message.geo.centre.lon)
        return GeoCondition(message.geo.field, centre, message.geo.radius_m)
    return ExistsCondition(message.exists.field)


async def read_queries(
    messages: Sequence[search_pb2.Query], collections: Sequence[Collection]
) -> list[Query]:
    """Read the queries of a request, each with its collection, and check them.

    Raises:
        InvalidArgument: a query is not valid, or together they request too many hits.
        FailedPrecondition: a collection does not index texts.
    """
    queries = []
    for number, (message, collection) in enumerate(zip(messages, collections, strict=True)):
        queries.append(read_query(message, collection, f"queries[{number}]"))
        await asyncio.sleep(0)  # lets other calls run
    check_queries(queries)
    return queries


def read_query(message: search_pb2.Query, collection: Collection, path: str) -> Query:
    """Read a query to a collection and check it. Raises InvalidArgument or FailedPrecondition."""
    if message.WhichOneof("by") is None:
        raise InvalidArgument(
            "EMPTY_QUERY",
            "The query is empty; set vector, document_id, text, hybrid or everything.",
            field=path,
        )
    condition = read_filter(message.filter, f"{path}.filter")
    if condition:
        check_filter(condition, collection.fields, f"{path}.filter")
    query = Query(
        collection=collection,
        **_read_by(message, collection, path),
        condition=condition,
        limit=message.limit or 10,
        offset=message.offset,
        min_similarity=message.min_similarity if message.HasField("min_similarity") else None,
        exact=message.exact,
        ef=message.ef,
        return_fields=_read_return_fields(message, collection, path),
        return_vector=message.return_vector,
        return_text=message.return_text,
        explain=message.explain,
        group_by=message.group_by.field,
        group_hits=message.group_by.hits or 1,
    )
    if message.HasField("group_by") and not query.group_by:
        raise InvalidArgument(
            "BAD_GROUP_FIELD",
            "group_by is set without a field; name the field to group by.",
            field=f"{path}.group_by.field",
        )
    check_query(query, path)
    return query


def _read_by(message: search_pb2.Query, collection: Collection, path: str) -> dict[str, Any]:
    """Read the criterion of a query, as arguments of Query."""
    by = message.WhichOneof("by")
    if by == "document_id":
        check_id(message.document_id, f"{path}.document_id")
        return {"document_id": message.document_id}
    if by == "vector":
        return {"vector": read_vector(message.vector, collection, f"{path}.vector")}
    if by == "text":
        return {"text": message.text or " "}  # check_query refuses a blank text
    if by == "everything":
        return {}
    hybrid = message.hybrid
    options: dict[str, Any] = {
        name: getattr(hybrid, name)
        for name in ("vector_weight", "rrf_constant")
        if hybrid.HasField(name)
    }
    if hybrid.depth:
        options["depth"] = hybrid.depth
    return {
        "vector": read_vector(hybrid.vector, collection, f"{path}.hybrid.vector"),
        "text": hybrid.text or " ",
        "fusion": read_enum(_FUSIONS, hybrid.fusion, f"{path}.hybrid.fusion"),
        **options,
    }


def _read_return_fields(
    message: search_pb2.Query, collection: Collection, path: str
) -> frozenset[str] | None:
    if message.return_no_fields:
        return frozenset()
    for name in message.return_fields:
        if name not in collection.fields:
            raise InvalidArgument(
                "UNDECLARED_FIELD",
                "return_fields names a field that the collection does not declare.",
                field=f"{path}.return_fields",
                name=name,
            )
    return frozenset(message.return_fields) or None


def read_collection_name(message: search_pb2.Query, default: str, path: str) -> str:
    """Return the name of the collection that a query searches. Raises InvalidArgument."""
    name = message.collection or default
    check_collection_name(name, f"{path}.collection" if message.collection else "collection")
    return name


def write_results(queries: Sequence[Query], results: Sequence[Result]) -> search_pb2.SearchResponse:
    """Write the results of a request. Raises InvalidArgument if they take too many bytes."""
    response = search_pb2.SearchResponse(
        results=[
            search_pb2.Result(
                hits=map(_write_hit, result.hits),
                engine=write_engine(query.collection),
                took=result.took,
                partial=bool(result.partial_reason),
                partial_reason=result.partial_reason,
                explanation=result.explanation,
            )
            for query, result in zip(queries, results, strict=True)
        ]
    )
    if response.ByteSize() > MAX_RESPONSE_BYTES:
        raise too_large("queries")
    return response


def _write_hit(hit: Hit) -> search_pb2.Hit:
    return search_pb2.Hit(
        id=hit.id,
        similarity=hit.similarity,
        distance=hit.distance,
        text_score=hit.text_score,
        score=hit.score,
        fields={name: write_value(value) for name, value in hit.fields.items()},
        vector=hit.vector,
        text=hit.text,
        payload=hit.payload,
        group=None if hit.group is None else write_value(hit.group),
    )
