"""Removes near-duplicate passages, and selects passages that differ from each other.

Near-duplicates are found by shingles: Broder, "On the resemblance and containment of documents",
1997. Diversity is maximal marginal relevance: Carbonell and Goldstein, "The use of MMR,
diversity-based reranking for reordering documents and producing summaries", SIGIR 1998.
"""

import heapq
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from math import ceil

import numpy as np

from services.gateway.rag.stepwise import stepwise
from services.gateway.rag.types import Passage

SHINGLE_WORDS = 5
# A passage is a duplicate from this resemblance (Jaccard similarity of the shingles) on.
MIN_DUPLICATE_RESEMBLANCE = 0.85
# Maximum number of passages that are listed for a shingle. Shingles in more passages than that say
# little.
MAX_LISTED = 32
MAX_COMPARED = 4
_STEP = 16  # passages or selections that take a few milliseconds


async def without_duplicates(ranked: Iterable[Passage]) -> AsyncIterator[Passage]:
    """Yield passages, best first, without those that nearly repeat a better passage."""
    index = _ShingleIndex()
    async for passage in stepwise(ranked, _STEP):
        shingles = _shingles(passage.text)
        if not index.has_duplicate(shingles):
            index.add(shingles)
            yield passage


class _ShingleIndex:
    """Finds duplicates among sets of shingles in time that does not grow with their number.

    Two sets with this resemblance share at least one of the smallest shingles in each set's prefix
    (Chaudhuri, Ganti and Kaushik, "A primitive operator for similarity joins in data cleaning",
    2006). It compares the sets that share the most and the rarest of them.
    """

    def __init__(self) -> None:
        self._sets: list[set[int]] = []
        self._numbers: dict[int, list[int]] = {}  # numbers of sets, by shingle

    def add(self, shingles: set[int]) -> None:
        for shingle in _prefix(shingles):
            numbers = self._numbers.setdefault(shingle, [])
            if len(numbers) < MAX_LISTED:
                numbers.append(len(self._sets))
        self._sets.append(shingles)

    def has_duplicate(self, shingles: set[int]) -> bool:
        weights: defaultdict[int, float] = defaultdict(float)
        for shingle in _prefix(shingles):
            numbers = self._numbers.get(shingle, ())
            for number in numbers:
                weights[number] += 1 / len(numbers)  # rare shingles are more informative
        return any(
            _resemblance(shingles, self._sets[number]) >= MIN_DUPLICATE_RESEMBLANCE
            for number in heapq.nlargest(MAX_COMPARED, weights, key=weights.__getitem__)
        )


async def diversify(ranked: Sequence[Passage], limit: int, diversity: float) -> list[Passage]:
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
    async for _ in stepwise(range(min(limit, len(ranked))), _STEP):
        value = (1 - diversity) * scores[remaining] - diversity * max_similarity[remaining]
        best = remaining.pop(int(np.argmax(value)))
        selected.append(ranked[best])
        max_similarity = np.maximum(max_similarity, rows @ rows[best])
    return selected


def _prefix(shingles: set[int]) -> list[int]:
    size = len(shingles) - ceil(MIN_DUPLICATE_RESEMBLANCE * len(shingles)) + 1
    return sorted(shingles)[:size]


def _resemblance(one: set[int], other: set[int]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _shingles(text: str) -> set[int]:
    """Return digests of the shingles, in an order that is the same on all replicas."""
    words = text.lower().split()
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    shingles = (" ".join(words[at : at + SHINGLE_WORDS]) for at in range(last))
    return {zlib.crc32(shingle.encode(errors="replace")) for shingle in shingles}
