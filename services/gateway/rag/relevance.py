"""Features of a question and its hits that tell whether the hits answer it.

Beside the cosine of the nearest chunk they say how much of the question's words and numbers the
best chunks have, and how near the nearest sentence is.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Hit
from services.gateway.rag.grounding.sentence import Sentence
from services.gateway.rag.ingest.segmentation import sentences

FEATURES = 7
# The hits whose words and sentences are read, and how much of them.
_HITS = 4
_MAX_SENTENCES = 12  # of each hit
_MAX_CHARACTERS = 4000  # of each hit
# All hits that count, and those whose mean similarity shows how near unrelated chunks are.
MAX_HITS = 9
_OTHERS = slice(4, MAX_HITS)
_BATCH = 256  # sentences in one call of the embedder

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A question, its vector as float32 [dimensions], and its hits in one collection."""

    question: str
    vector: NDArray[np.float32]
    hits: Sequence[Hit]

    @cached_property
    def words(self) -> Sentence:
        """The words and numbers of the question."""
        return Sentence(self.question)

    @cached_property
    def sentences(self) -> list[list[Sentence]]:
        """The sentences of the first hits, as far as they are read."""
        texts = [_own_text(hit)[:_MAX_CHARACTERS] for hit in self.hits[:_HITS]]
        return [
            [Sentence(span.of(text)) for span in islice(sentences(text), _MAX_SENTENCES)]
            for text in texts
        ]

    @property
    def texts(self) -> list[str]:
        """The texts of ``sentences``."""
        return [one.text for hit in self.sentences for one in hit]


async def embed(
    candidates: Sequence[Candidate], embedder: EmbedderClient, *, bulk: bool = False
) -> list[NDArray[np.float32]]:
    """Return the vectors of each candidate's ``texts``, float32 [sentences, dimensions]."""
    every = list(dict.fromkeys(text for one in candidates for text in one.texts))
    if not every:
        return [np.empty((0, 1), np.float32) for _ in candidates]
    parts = [
        (await embedder.embed_documents(every[first : first + _BATCH], bulk=bulk)).rows
        for first in range(0, len(every), _BATCH)
    ]
    rows = np.concatenate(parts)
    place = {text: row for row, text in enumerate(every)}
    return [rows[[place[text] for text in one.texts]] for one in candidates]


def features(candidate: Candidate, rows: NDArray[np.float32]) -> Features:
    """Return the features, float64 [FEATURES]; ``rows`` are the vectors of the sentences."""
    stems = candidate.words.stems
    similarities = sorted((hit.similarity for hit in candidate.hits[:MAX_HITS]), reverse=True) or [
        0.0
    ]
    others = similarities[_OTHERS] or similarities[1:] or [0.0]
    read = candidate.sentences
    cosines = iter(rows @ candidate.vector if len(rows) else ())
    found, near, close, both = [0.0], [0.0], [0.0], [0.0]
    for hit in read:
        found.append(_share(stems, frozenset().union(*(one.stems for one in hit))))
        for one, following in pairwise([*hit, Sentence("")]):
            cosine = float(next(cosines))
            near.append(cosine)
            close.append(_share(stems, one.stems | following.stems))
            both.append(cosine + _share(stems, one.stems))
    numbers = [number for hit in read for one in hit for number in one.numbers]
    given = candidate.words.numbers
    missing = [one for one in given if not any(one.agrees(number) for number in numbers)]
    return np.array(
        [
            similarities[0],
            similarities[0] - float(np.mean(others)),
            max(found),
            len(missing) / max(len(given), 1),
            max(near),
            max(close),
            max(both),
        ]
    )


def _own_text(hit: Hit) -> str:
    """Return the text of a chunk without its title and its neighbours."""
    if not hit.payload:
        return hit.text
    place = json.loads(hit.payload)
    return hit.text[place["lead"] :][: place["end"] - place["start"]]


def _share(stems: frozenset[str], of: frozenset[str]) -> float:
    return len(stems & of) / max(len(stems), 1)
