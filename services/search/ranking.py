"""Fuses the vector ranking and the text ranking of a hybrid query.

Reciprocal rank fusion: Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet
and individual rank learning methods", SIGIR 2009. Convex combination of min-max scores: Bruch, Gai
and Ingber, "An analysis of fusion functions for hybrid retrieval", ACM TOIS 2023.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.search import metric_transforms
from services.search.types import Document, Hit, Query, Result, selected_fields
from services.search.validation import MAX_HITS


def split_hybrid(query: Query) -> tuple[Query, Query]:
    """Return the vector query and the text query that a hybrid query consists of.

    They read only the parts of documents that rank them. ``add_documents`` adds the rest.
    """
    both = replace(
        query,
        fusion="",
        limit=min(max(query.depth, query.page_end), MAX_HITS),
        offset=0,
        min_similarity=None,
        return_fields=frozenset(),
        return_text=False,
    )
    return replace(both, text=""), replace(both, vector=None, return_vector=True)


def fuse(query: Query, by_vector: Result, by_text: Result) -> Result:
    """Return the page of a hybrid query from the results of its two parts."""
    hits = {hit.id: hit for hit in by_vector.hits}
    for hit in by_text.hits:
        hits.setdefault(hit.id, hit).text_score = hit.text_score
    _add_similarities([hit for hit in by_text.hits if hits[hit.id] is hit], query)
    if query.fusion == "rrf":
        _reciprocal_rank_fusion(query, hits, (by_vector, by_text))
    else:
        _linear_fusion(query, hits)
    ranked = sorted(hits.values(), key=lambda hit: (-hit.score, hit.id))
    if query.min_similarity is not None:
        ranked = [hit for hit in ranked if hit.similarity >= query.min_similarity]
    page = ranked[query.offset : query.page_end]
    if not query.return_vector:
        for hit in page:
            hit.vector = b""
    reasons = [one.partial_reason for one in (by_vector, by_text) if one.partial_reason]
    explanation = by_vector.explanation + by_text.explanation
    return Result(page, by_vector.took, "; ".join(reasons), explanation)


def needs_documents(query: Query) -> bool:
    """Return whether a hybrid query returns more of its hits than ``split_hybrid`` has read."""
    return bool(query.fusion) and (query.return_text or query.return_fields != frozenset())


def add_documents(query: Query, result: Result, documents: Sequence[Document | None]) -> None:
    """Add to each hit the requested parts of its document; drop hits whose document is gone."""
    pairs = zip(result.hits, documents, strict=True)
    found = [(hit, document) for hit, document in pairs if document]
    if len(found) < len(result.hits):
        missing = f"{len(result.hits) - len(found)} hits were deleted while the search ran"
        result.partial_reason = result.partial_reason or missing
    for hit, document in found:
        hit.fields = selected_fields(document.fields, query.return_fields)
        if query.return_text:
            hit.text, hit.payload = document.text, document.payload
    result.hits = [hit for hit, _ in found]


def _add_similarities(hits: Sequence[Hit], query: Query) -> None:
    """Compute the similarities of hits that only the text query has found."""
    if not hits or query.vector is None:
        return
    vectors = np.frombuffer(b"".join(hit.vector for hit in hits), "<f4").reshape(len(hits), -1)
    scores = metric_transforms.exact_scores(query.collection.metric, query.vector, vectors)
    for hit, similarity, distance in zip(hits, *scores, strict=True):
        hit.similarity, hit.distance = float(similarity), float(distance)


def _reciprocal_rank_fusion(query: Query, hits: dict[str, Hit], rankings: Sequence[Result]) -> None:
    for hit in hits.values():
        hit.score = 0.0
    for ranking in rankings:
        for rank, hit in enumerate(ranking.hits, 1):
            hits[hit.id].score += 1 / (query.rrf_constant + rank)


def _linear_fusion(query: Query, hits: dict[str, Hit]) -> None:
    similarities = _min_max_scaled({key: hit.similarity for key, hit in hits.items()})
    text_scores = _min_max_scaled({key: hit.text_score for key, hit in hits.items()})
    weight = query.vector_weight
    for key, hit in hits.items():
        hit.score = weight * similarities[key] + (1 - weight) * text_scores[key]


def _min_max_scaled(scores: dict[str, float]) -> dict[str, float]:
    """Scale scores to [0, 1]; equal scores all become 1."""
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - low) / (high - low) for key, score in scores.items()}
