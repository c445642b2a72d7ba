"""Joins a ranking by vectors with a ranking by words.

Reciprocal rank fusion: Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet
and individual rank learning methods", SIGIR 2009. Convex combination of min-max scores: Bruch, Gai
and Ingber, "An analysis of fusion functions for hybrid retrieval", ACM TOIS 2023.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.search import metric_transforms
from services.search.types import HITS_LIMIT, Document, Hit, Query, Result


def halves(query: Query) -> tuple[Query, Query]:
    """Return the query by vector and the query by words that a hybrid query is made of.

    They ask for no more of the documents than ranks them.
    """
    depth = min(max(query.depth, query.offset + query.limit), HITS_LIMIT)
    both = replace(
        query,
        fusion="",
        limit=depth,
        offset=0,
        min_similarity=None,
        return_fields=frozenset(),
        return_text=False,
    )
    return replace(both, text=""), replace(both, vector=None, return_vector=True)


def join(query: Query, near: Result, worded: Result) -> Result:
    """Return the page of a hybrid query from the results of its halves."""
    hits = {hit.id: hit for hit in near.hits}
    for hit in worded.hits:
        known = hits.setdefault(hit.id, hit)
        known.text_score = hit.text_score
    _compare([hit for hit in worded.hits if hits[hit.id] is hit], query)
    (_reciprocal if query.fusion == "rrf" else _convex)(query, hits, near, worded)
    ranked = sorted(hits.values(), key=lambda hit: (-hit.score, hit.id))
    if query.min_similarity is not None:
        ranked = [hit for hit in ranked if hit.similarity >= query.min_similarity]
    page = ranked[query.offset : query.offset + query.limit]
    if not query.return_vector:
        for hit in page:
            hit.vector = b""
    reasons = [one.partial_reason for one in (near, worded) if one.partial_reason]
    explanation = near.explanation + worded.explanation
    return Result(page, near.took, "; ".join(reasons), explanation)


def reads(query: Query) -> bool:
    """Say whether a hybrid query asks for more of its hits than ``halves`` have read."""
    return bool(query.fusion) and (query.return_text or query.return_fields != frozenset())


def fill(query: Query, result: Result, documents: Sequence[Document | None]) -> None:
    """Give hits what is asked for of their documents; those that are gone by now are dropped."""
    pairs = zip(result.hits, documents, strict=True)
    found = [(hit, document) for hit, document in pairs if document]
    if len(found) < len(result.hits):
        lost = f"{len(result.hits) - len(found)} hits were deleted while the search ran"
        result.partial_reason = result.partial_reason or lost
    chosen = query.return_fields
    for hit, document in found:
        hit.fields = {
            name: value
            for name, value in document.fields.items()
            if chosen is None or name in chosen
        }
        if query.return_text:
            hit.text, hit.payload = document.text, document.payload
    result.hits = [hit for hit, _ in found]


def _compare(hits: Sequence[Hit], query: Query) -> None:
    """Give similarities to hits that words alone have found."""
    if not hits or query.vector is None:
        return
    stored = np.frombuffer(b"".join(hit.vector for hit in hits), "<f4").reshape(len(hits), -1)
    scores = metric_transforms.exact_scores(query.collection.metric, query.vector, stored)
    for hit, similarity, distance in zip(hits, *scores, strict=True):
        hit.similarity, hit.distance = float(similarity), float(distance)


def _reciprocal(query: Query, hits: dict[str, Hit], near: Result, worded: Result) -> None:
    for hit in hits.values():
        hit.score = 0.0
    for result in (near, worded):
        for rank, hit in enumerate(result.hits, 1):
            hits[hit.id].score += 1 / (query.rrf_constant + rank)


def _convex(query: Query, hits: dict[str, Hit], near: Result, worded: Result) -> None:
    nearness = _scaled({key: hit.similarity for key, hit in hits.items()})
    wording = _scaled({key: hit.text_score for key, hit in hits.items()})
    weight = query.vector_weight
    for key, hit in hits.items():
        hit.score = weight * nearness[key] + (1 - weight) * wording[key]


def _scaled(scores: dict[str, float]) -> dict[str, float]:
    """Scale scores to [0, 1]; all alike become 1."""
    least, most = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    if most == least:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - least) / (most - least) for key, score in scores.items()}
