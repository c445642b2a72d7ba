"""Merges adjacent chunks of a document into passages that read as one."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.gateway.rag.types import Passage

# Longer passages are harder to read and to cite.
MAX_MERGED_CHUNKS = 3

Score = Callable[[float, float], float]


def merge_adjacent(passages: Sequence[Passage], score: Score) -> list[Passage]:
    """Merge up to ``MAX_MERGED_CHUNKS`` consecutive chunks of a document into a passage.

    Args:
        passages: one passage for each chunk, in any order.
        score: computes a score from a similarity and a text score.
    """
    merged: list[Passage] = []
    for passage in sorted(passages, key=lambda one: (one.document, one.version, one.first)):
        if merged and _is_adjacent(merged[-1], passage):
            merged[-1] = _merge(merged[-1], passage, score)
        else:
            merged.append(passage)
    return merged


def _is_adjacent(one: Passage, following: Passage) -> bool:
    consecutive = (one.document, one.version, one.last + 1) == (
        following.document,
        following.version,
        following.first,
    )
    touches = following.start <= one.end or one.gap is not None
    return consecutive and touches and following.last - one.first < MAX_MERGED_CHUNKS


def _merge(one: Passage, following: Passage, score: Score) -> Passage:
    """Return both as one passage with the better similarity and the better text score.

    It has the section and the page of the better one, which more likely has the answer.
    """
    if following.start <= one.end:  # they overlap
        text = one.text + following.text[one.end - following.start :]
    else:
        text = one.text + (one.gap or "") + following.text
    best = max(one, following, key=lambda passage: passage.score)
    similarity = max(one.similarity, following.similarity)
    text_score = max(one.text_score, following.text_score)
    return replace(
        best,
        text=text,
        start=one.start,
        end=following.end,
        score=score(similarity, text_score),
        similarity=similarity,
        text_score=text_score,
        first=one.first,
        last=following.last,
        gap=following.gap,
    )
