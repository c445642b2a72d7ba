"""Finds passages: builds the queries, and turns their hits into ranked passages."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.rag.ingest.types import DOCUMENT_FIELD, DocumentCollection
from services.gateway.rag.merging import merge_adjacent
from services.gateway.rag.redundancy import diversify, without_duplicates
from services.gateway.rag.stepwise import stepwise, take
from services.gateway.rag.types import Passage, Question

# Hits per requested passage, since adjacent chunks are merged and duplicates are dropped.
HITS_PER_PASSAGE = 3
MAX_HITS = 3000
# How many hits of each ranking, by vector and by words, are fused. A chunk below this depth in the
# ranking by words counts as if it had no word of the question, so the depth is large.
HYBRID_DEPTH = 300
VECTOR_WEIGHT = 0.6
MAX_TEXT_CHARACTERS = 4000
_STEP = 128  # hits that take a few milliseconds


@dataclass(frozen=True)
class ScoreWeights:
    """A passage's score as a weighted sum of its similarity and text score, plus an offset."""

    similarity: float
    text: float
    offset: float

    def score(self, similarity: float, text_score: float) -> float:
        """Return the score."""
        return self.similarity * similarity + self.text * text_score + self.offset


@dataclass(frozen=True)
class QuestionVectors:
    """The vectors of a question.

    Attributes:
        search: searches documents.
        in_context: the vector of the question after the user's last messages, as the cache stores
            it.
    """

    search: Vectors
    in_context: Vectors


async def embed_question(embedder: EmbedderClient, question: Question) -> QuestionVectors:
    """Embed a question with and without the user's last messages, and search with the mean of both.

    The messages say what "And in Paris?" asks about. The vector without them keeps them from
    outweighing a question about something else.
    """
    if question.text_in_context == question.text:
        vectors = await embedder.embed_queries([question.text])
        return QuestionVectors(vectors, vectors)
    vectors = await embedder.embed_queries([question.text, question.text_in_context])
    mean = vectors.rows.mean(0, keepdims=True)
    mean /= np.linalg.norm(mean) or 1.0
    return QuestionVectors(replace(vectors.only(0), rows=mean), vectors.only(1))


def build_queries(
    collections: Sequence[DocumentCollection],
    text: str,
    vectors: Vectors,
    limit: int,
    **options: Any,
) -> list[Query]:
    """Return the queries that find passages for a question, one for each collection.

    Args:
        collections: collections of documents.
        text: the question's text; empty to search by vector only.
        vectors: the question's vector as the only row.
        limit: maximum number of passages.
        options: other attributes of every ``Query``.
    """
    return [
        Query(
            collection.search_name,
            vectors.rows[0],
            min(limit * HITS_PER_PASSAGE, MAX_HITS),
            text=text[:MAX_TEXT_CHARACTERS],
            depth=HYBRID_DEPTH,
            with_text=True,
            **options,
        )
        for collection in collections
    ]


async def rank(hits: Sequence[Sequence[Hit]]) -> AsyncIterator[Passage]:
    """Yield passages from the hits of each collection, best first, without near-duplicates."""
    weights = _score_weights(hits)
    passages: list[Passage] = []
    for collection in hits:
        chunks = [_passage(hit, weights) async for hit in stepwise(collection, _STEP)]
        passages += merge_adjacent(chunks, weights.score)
    passages.sort(key=lambda one: (-one.score, one.document, one.start))
    async for passage in without_duplicates(passages):
        yield passage


async def select(
    ranked: AsyncIterator[Passage], limit: int, diversity: float = 0.0
) -> list[Passage]:
    """Return the best ``limit`` passages; ``diversity`` above 0 prefers passages that differ."""
    if diversity:
        candidates = await take(ranked, limit * HITS_PER_PASSAGE)
        selected = await diversify(candidates, limit, diversity)
    else:
        selected = await take(ranked, limit)
    return [replace(passage, vector=None) for passage in selected]


def best_similarity(hits: Sequence[Sequence[Hit]]) -> float:
    """Return the cosine similarity of the nearest hit, or 0 without hits."""
    return max((hit.similarity for collection in hits for hit in collection), default=0.0)


def _score_weights(hits: Sequence[Sequence[Hit]]) -> ScoreWeights:
    """Return the weights that turn similarities and text scores into scores.

    Search fuses both within each collection. For a single collection, least squares recovers the
    weights that search used. Several collections share one set of weights here, because search
    scales each collection by its own hits.
    """
    every = [hit for collection in hits for hit in collection]
    if not every:
        return ScoreWeights(1.0, 0.0, 0.0)
    similarities = np.array([hit.similarity for hit in every])
    text_scores = np.array([hit.text_score for hit in every])
    if sum(bool(collection) for collection in hits) == 1:
        terms = np.stack([similarities, text_scores, np.ones(len(every))], 1)
        fitted = np.linalg.lstsq(terms, np.array([hit.score for hit in every]))[0]
        return ScoreWeights(*map(float, fitted))
    spreads = [float(np.ptp(values)) or 1.0 for values in (similarities, text_scores)]
    weights = VECTOR_WEIGHT / spreads[0], (1 - VECTOR_WEIGHT) / spreads[1]
    lowest = weights[0] * similarities.min() + weights[1] * text_scores.min()
    return ScoreWeights(*weights, -float(lowest))


def _passage(hit: Hit, weights: ScoreWeights) -> Passage:
    place = json.loads(hit.payload)
    fields = {name: value for name, value in hit.fields.items() if name != DOCUMENT_FIELD}
    return Passage(
        document=place["document"],
        chunk=hit.id,
        text=hit.text[place["lead"] : place["lead"] + place["end"] - place["start"]],
        score=weights.score(hit.similarity, hit.text_score),
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
