"""Finds sentences of the nearest chunks that have all words of a question.

The cosine of a chunk that is about several things can be low although one of its sentences answers
the question. A sentence with all words of the question counts by its own cosine. If there are
several words, a lower cosine suffices: it answers none of 500 banking questions from SciFact.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Hit
from services.gateway.rag.question_words import QuestionWords
from services.gateway.rag.units import units
from services.words import words

_HITS = 4
_MAX_CHARACTERS = 4000  # of each hit
_MAX_SENTENCES = 8
# The share of the minimum cosine that suffices if several words match.
_SHARE = 0.75


async def nearest_with_all_words(
    question: str, vector: NDArray[np.float32], hits: Sequence[Hit], embedder: EmbedderClient
) -> float:
    """Return the cosine of the nearest sentence with all words of the question, or 0 without one.

    Args:
        question: the question.
        vector: its vector, float32 [dimensions].
        hits: the chunks to look in, best first.
        embedder: embeds the sentences.
    """
    texts = list(islice(_with_all_words(question, hits), _MAX_SENTENCES))
    if not texts:
        return 0.0
    rows = (await embedder.embed_documents(texts)).rows
    return float((rows @ vector).max())


def sufficient_share(question: str) -> float:
    """Return the share of the minimum cosine that suffices for a sentence with all words."""
    return _SHARE if len(QuestionWords(question).stems) > 1 else 1.0


def _with_all_words(question: str, hits: Sequence[Hit]) -> Iterator[str]:
    wanted = QuestionWords(question)
    whole_question = f" {' '.join(words(question))} "
    for hit in hits[:_HITS] if wanted.stems else ():
        if not hit.payload:
            continue
        place = json.loads(hit.payload)
        text = hit.text[place["lead"] :][: min(place["end"] - place["start"], _MAX_CHARACTERS)]
        for unit in units(text, place["title"], place["section"]):
            # The title does not count, since every sentence of the document would have its words.
            found = wanted.found_in(f"{unit.context}\n{unit.whole_text}")
            # A text that contains the question, such as an example, does not answer it.
            repeats = whole_question in f" {' '.join(words(unit.text))} "
            if not unit.is_title and found == wanted.stems and not repeats:
                yield unit.embedded_text(place["title"])
