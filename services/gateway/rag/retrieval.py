"""Arranges what was found for a question: backends joined, duplicates dropped, best first.

Maximal marginal relevance: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for
reordering documents and producing summaries", SIGIR 1998.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.rag.ingest.types import DOCUMENT_FIELD, search_collection

# Hits asked for per passage wanted: backends join, and duplicates go.
HITS_PER_PASSAGE = 3
HITS_LIMIT = 3000
# A chunk beyond the words' hits counts as if it had none of them, so those go deep.
DEPTH = 300
JOINED_LIMIT = 3
VECTOR_WEIGHT = 0.6
WORDS_LIMIT = 4000
_SHINGLE = 5
_DUPLICATE = 0.85


@dataclass(frozen=True)
class Passage:
    """A part of a document that was found; ``start`` and ``end`` are its place in the source.

    Attributes:
        chunk: id of the best of the chunks it is joined from.
        score: what it is ranked by; a cosine if words were not asked by.
        similarity: cosine to the question; ``text_score`` is that of its words.
        first: number of its first chunk in the document, ``last`` of its last.
        gap: white space between it and the next chunk; None if more lies between.
        vector: of the best chunk, float32 [dimensions], if asked for.
    """

    document: str
    chunk: str
    text: str
    score: float
    similarity: float
    title: str
    version: str
    start: int
    end: int
    fields: dict[str, object] = field(default_factory=dict)
    section: str = ""
    page: int = 0
    text_score: float = 0.0
    first: int = 0
    last: int = 0
    gap: str | None = None
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Scale:
    """A score is ``near`` × similarity + ``worded`` × score of words + ``offset``."""

    near: float
    worded: float
    offset: float

    def of(self, similarity: float, text_score: float) -> float:
        """Return a score."""
        return self.near * similarity + self.worded * text_score + self.offset


def queries(
    names: Sequence[str], text: str, vectors: Vectors, limit: int, **options: Any
) -> list[Query]:
    """Return the queries that look for a question in collections of documents.

    ``text`` is empty to ask by meaning alone; ``options`` are those of ``Query``.
    """
    return [
        Query(
            search_collection(name),
            vectors.rows[0],
            min(limit * HITS_PER_PASSAGE, HITS_LIMIT),
            text=text[:WORDS_LIMIT],
            depth=DEPTH,
            with_text=True,
            **options,
        )
        for name in names
    ]


def nearest(name: str, vectors: Vectors) -> list[Query]:
    """Return the queries for the one nearest chunk to each of several questions."""
    return [Query(search_collection(name), row, 1) for row in vectors.rows]


def arrange(found: Sequence[Sequence[Hit]], limit: int, diversity: float = 0.0) -> list[Passage]:
    """Return readable passages from the hits of each collection, best first."""
    return choose(candidates(found), limit, diversity)


def candidates(found: Sequence[Sequence[Hit]]) -> Iterator[Passage]:
    """Yield readable passages from the hits of each collection, best first, none said twice."""
    scale = _scale(found)
    joined = [one for hits in found for one in _join([_passage(hit, scale) for hit in hits], scale)]
    return _distinct(sorted(joined, key=lambda one: (-one.score, one.document, one.start)))


def choose(ranked: Iterable[Passage], limit: int, diversity: float = 0.0) -> list[Passage]:
    """Return the best of passages that are ranked; ``diversity`` prefers those that differ."""
    if diversity:
        chosen = _diverse(list(islice(ranked, limit * HITS_PER_PASSAGE)), limit, diversity)
    else:
        chosen = list(islice(ranked, limit))
    return [replace(passage, vector=None) for passage in chosen]


def best_similarity(found: Sequence[Sequence[Hit]]) -> float:
    """Return the cosine of the nearest hit; 0 if there is none."""
    return max((hit.similarity for hits in found for hit in hits), default=0.0)


def _scale(found: Sequence[Sequence[Hit]]) -> Scale:
    """Return how a score is made of a similarity and a score of words.

    In one collection it is read off what search has made of them. Each collection is scaled by its
    own hits, so several get a scale that all their hits share.
    """
    hits = [hit for some in found for hit in some]
    if not hits:
        return Scale(1.0, 0.0, 0.0)
    nearness = np.array([hit.similarity for hit in hits])
    wording = np.array([hit.text_score for hit in hits])
    if len([some for some in found if some]) == 1:
        terms = np.stack([nearness, wording, np.ones(len(hits))], 1)
        fit = np.linalg.lstsq(terms, np.array([hit.score for hit in hits]))[0]
        return Scale(*map(float, fit))
    spans = [float(np.ptp(values)) or 1.0 for values in (nearness, wording)]
    weights = VECTOR_WEIGHT / spans[0], (1 - VECTOR_WEIGHT) / spans[1]
    least = weights[0] * nearness.min() + weights[1] * wording.min()
    return Scale(*weights, -float(least))


def _passage(hit: Hit, scale: Scale) -> Passage:
    place = json.loads(hit.payload)
    fields = {name: value for name, value in hit.fields.items() if name != DOCUMENT_FIELD}
    return Passage(
        document=place["document"],
        chunk=hit.id,
        text=hit.text[place["lead"] : place["lead"] + place["end"] - place["start"]],
        score=scale.of(hit.similarity, hit.text_score),
        similarity=hit.similarity,
        text_score=hit.text_score,
        title=place["title"],
        version=place["version"],
        start=place["start"],
        end=place["end"],
        fields=dict(fields),
        section=place["section"],
        page=place["page"],
        first=place["number"],
        last=place["number"],
        gap=place["gap"],
        vector=hit.vector,
    )


def _join(passages: list[Passage], scale: Scale) -> list[Passage]:
    """Join chunks that follow each other in a document, as far as that stays readable."""
    joined: list[Passage] = []
    for one in sorted(passages, key=lambda one: (one.document, one.version, one.first)):
        if joined and _follows(joined[-1], one):
            joined[-1] = _joined(joined[-1], one, scale)
        else:
            joined.append(one)
    return joined


def _follows(one: Passage, other: Passage) -> bool:
    same = (one.document, one.version, one.last + 1) == (other.document, other.version, other.first)
    meets = other.start <= one.end or one.gap is not None
    return same and meets and other.last - one.first < JOINED_LIMIT


def _joined(one: Passage, other: Passage, scale: Scale) -> Passage:
    """Return both as one, as near as the nearer and worded as well as the better worded of them."""
    if other.start <= one.end:  # they overlap
        text = one.text + other.text[one.end - other.start :]
    else:
        text = one.text + (one.gap or "") + other.text
    best = max(one, other, key=lambda passage: passage.score)
    similarity = max(one.similarity, other.similarity)
    text_score = max(one.text_score, other.text_score)
    return replace(
        best,
        text=text,
        start=one.start,
        end=other.end,
        score=scale.of(similarity, text_score),
        similarity=similarity,
        text_score=text_score,
        section=one.section,
        page=one.page,
        first=one.first,
        last=other.last,
        gap=other.gap,
    )


def _distinct(ranked: Iterable[Passage]) -> Iterator[Passage]:
    """Leave out passages that say, nearly word for word, what a better one says."""
    holders: dict[int, list[int]] = {}
    sizes: list[int] = []
    for passage in ranked:
        shingles = _shingles(passage.text)
        shared: dict[int, int] = {}
        for shingle in shingles:
            for number in holders.get(shingle, ()):
                shared[number] = shared.get(number, 0) + 1
        if any(
            count >= _DUPLICATE * (len(shingles) + sizes[number] - count)
            for number, count in shared.items()
        ):
            continue
        for shingle in shingles:
            holders.setdefault(shingle, []).append(len(sizes))
        sizes.append(len(shingles))
        yield passage


def _shingles(text: str) -> set[int]:
    words = text.lower().split()
    return {
        hash(tuple(words[at : at + _SHINGLE])) for at in range(max(1, len(words) - _SHINGLE + 1))
    }


def _diverse(ranked: Sequence[Passage], limit: int, diversity: float) -> list[Passage]:
    """Choose one after the other what scores well and is unlike what was chosen."""
    if not ranked:
        return []
    rows = np.stack([passage.vector for passage in ranked if passage.vector is not None])
    scores = np.array([passage.score for passage in ranked])
    # Whatever they are made of, they weigh against cosines.
    scores = (scores - scores.min()) / (float(np.ptp(scores)) or 1.0)
    nearest = np.zeros(len(ranked))
    left = list(range(len(ranked)))
    chosen: list[Passage] = []
    while left and len(chosen) < limit:
        value = (1 - diversity) * scores[left] - diversity * nearest[left]
        best = left.pop(int(np.argmax(value)))
        chosen.append(ranked[best])
        nearest = np.maximum(nearest, rows @ rows[best])
    return chosen
