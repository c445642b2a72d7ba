"""Ranks passages again, by a cross-encoder that reads the question and a passage together.

Nogueira and Cho, "Passage re-ranking with BERT", 2019: what was found cheaply is read closely.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.rag.retrieval import Passage

# At least so many of the best are read; a cross-encoder reads each anew for every question.
_READ = 50


def depth(limit: int) -> int:
    """Return how many passages are read to choose ``limit`` of them."""
    return max(limit, _READ)


async def rerank(
    embedder: EmbedderClient, question: str, ranked: Iterable[Passage], limit: int
) -> list[Passage]:
    """Return the best passages in the order of their scores by the embedder's cross-encoder.

    Raises:
        FailedPrecondition: the embedder has none.
    """
    read = list(islice(ranked, depth(limit)))
    if not read:
        return []
    scores = await embedder.rerank(question, [_told(passage) for passage in read])
    order = np.argsort(-scores, kind="stable")
    return [replace(read[at], score=float(scores[at])) for at in order]


def _told(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text
