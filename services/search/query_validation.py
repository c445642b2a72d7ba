"""Checks queries; ``path`` is the path of the query in the request."""

import math
from collections.abc import Sequence

from services.errors import FailedPrecondition, InvalidArgument
from services.search.types import Query
from services.search.validation import MAX_EF, MAX_HITS, check_range

MAX_TEXT_LENGTH = 10_000
MAX_RRF_CONSTANT = 1_000_000
# The queries of one request may request this many hits in all.
MAX_REQUEST_HITS = 100_000


def check_queries(queries: Sequence[Query]) -> None:
    """Raise InvalidArgument if the queries of a request request too many hits."""
    requested = sum(requested_hits(query) for query in queries)
    if requested > MAX_REQUEST_HITS:
        raise InvalidArgument(
            "TOO_MANY_HITS",
            f"The queries request {requested:,} hits; a request can have up to"
            f" {MAX_REQUEST_HITS:,}. Send fewer queries, or lower limit, offset or depth.",
            field="queries",
            limit=MAX_REQUEST_HITS,
        )


def requested_hits(query: Query) -> int:
    """Return how many hits a query reads, at most."""
    hits = query.page_end * (query.group_hits if query.group_by else 1)
    return 2 * max(hits, query.depth) if query.fusion else hits


def check_query(query: Query, path: str) -> None:
    """Check the bounds and options of a query.

    Raises:
        InvalidArgument: an option is out of range, or options contradict each other.
        FailedPrecondition: the collection does not index texts.
    """
    check_range(query.limit, 1, MAX_HITS, f"{path}.limit")
    check_range(query.offset, 0, MAX_HITS, f"{path}.offset")
    check_range(query.ef, 0, MAX_EF, f"{path}.ef")
    if query.min_similarity is not None and not math.isfinite(query.min_similarity):
        raise InvalidArgument(
            "NOT_FINITE", "min_similarity must be a finite number.", field=f"{path}.min_similarity"
        )
    if query.text or query.fusion:
        _check_text(query, path)
        _check_fusion(query, f"{path}.hybrid")
    if query.group_by:
        _check_group(query, f"{path}.group_by")


def _check_text(query: Query, path: str) -> None:
    if not query.collection.index_text:
        raise FailedPrecondition(
            "TEXT_NOT_INDEXED",
            "The collection was created with index_text false, so it cannot answer text queries.",
            field=path,
            collection=query.collection.name,
        )
    if not query.text.strip() or len(query.text) > MAX_TEXT_LENGTH:
        raise InvalidArgument(
            "BAD_TEXT",
            f"The text of a query must have 1 to {MAX_TEXT_LENGTH} characters.",
            field=f"{path}.text",
        )
    if query.min_similarity is not None and not query.fusion:
        raise InvalidArgument(
            "NO_SIMILARITY",
            "A text query has no similarity; leave min_similarity out or send a hybrid query.",
            field=f"{path}.min_similarity",
        )


def _check_fusion(query: Query, path: str) -> None:
    if not 0 <= query.vector_weight <= 1:
        raise InvalidArgument(
            "OUT_OF_RANGE", "vector_weight must be 0 to 1.", field=f"{path}.vector_weight"
        )
    if not 0 < query.rrf_constant <= MAX_RRF_CONSTANT:
        raise InvalidArgument(
            "OUT_OF_RANGE",
            f"rrf_constant must be more than 0 and at most {MAX_RRF_CONSTANT}.",
            field=f"{path}.rrf_constant",
        )
    check_range(query.depth, 1, MAX_HITS, f"{path}.depth")


def _check_group(query: Query, path: str) -> None:
    if query.collection.fields.get(query.group_by) not in ("tag", "number"):
        raise InvalidArgument(
            "BAD_GROUP_FIELD",
            "group_by must name a declared field of type TAG or NUMBER.",
            field=f"{path}.field",
            name=query.group_by,
        )
    max_group_hits = max(1, MAX_HITS // max(1, query.page_end))
    check_range(query.group_hits, 1, max_group_hits, f"{path}.hits")
