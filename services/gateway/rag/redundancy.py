"""Removes near-duplicate passages, and selects passages that differ from each other.

Near-duplicates are found by shingles: Broder, "On the resemblance and containment of documents",
1997. Diversity is maximal marginal relevance: Carbonell and Goldstein, "The use of MMR,
diversity-based reranking for reordering documents and producing summaries", SIGIR 1998.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from services.gateway.rag.types import Passage

SHINGLE_WORDS = 5
# A passage is a duplicate from this resemblance (Jaccard similarity of the shingles) on.
MIN_DUPLICATE_RESEMBLANCE = 0.85


def without_duplicates(ranked: Iterable[Passage]) -> Iterator[Passage]:
    """Yield passages, best first, without those that nearly repeat a better passage."""
    passages_with: dict[int, list[int]] = {}  # numbers of the yielded passages, by shingle
    sizes: list[int] = []
    for passage in ranked:
        shingles = _shingles(passage.text)
        shared: dict[int, int] = {}
        for shingle in shingles:
            for number in passages_with.get(shingle, ()):
                shared[number] = shared.get(number, 0) + 1
        if any(
            count >= MIN_DUPLICATE_RESEMBLANCE * (len(shingles) + sizes[number] - count)
            for number, count in shared.items()
        ):
            continue
        for shingle in shingles:
            passages_with.setdefault(shingle, []).append(len(sizes))
        sizes.append(len(shingles))
        yield passage


def diversify(ranked: Sequence[Passage], limit: int, diversity: float) -> list[Passage]:
    """Select passages with high scores that differ from the passages selected before.

    Args:
        ranked: passages with unit vectors, best first.
        limit: maximum number of passages.
        diversity: weight of the difference, in [0, 1]; the score has the remaining weight.
    """
    if not ranked:
        return []
    rows = np.stack([passage.vector for passage in ranked if passage.vector is not None])
    scores = np.array([passage.score for passage in ranked])
    # Scaled to [0, 1], since they are weighed against cosines.
    scores = (scores - scores.min()) / (float(np.ptp(scores)) or 1.0)
    max_similarity = np.zeros(len(ranked))  # to the passages selected so far
    remaining = list(range(len(ranked)))
    selected: list[Passage] = []
    while remaining and len(selected) < limit:
        value = (1 - diversity) * scores[remaining] - diversity * max_similarity[remaining]
        best = remaining.pop(int(np.argmax(value)))
        selected.append(ranked[best])
        max_similarity = np.maximum(max_similarity, rows @ rows[best])
    return selected


def _shingles(text: str) -> set[int]:
    words = text.lower().split()
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return {hash(tuple(words[at : at + SHINGLE_WORDS])) for at in range(last)}
