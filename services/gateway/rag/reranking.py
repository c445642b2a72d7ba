"""Reranks passages by a cross-encoder, which reads the question and a passage together.

The first stage finds many passages cheaply, and the second scores the best of them accurately:
Nogueira and Cho, "Passage re-ranking with BERT", 2019.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.rag.stepwise import take
from services.gateway.rag.types import Passage

# Minimum number of passages that the cross-encoder scores for a question.
_MIN_DEPTH = 50


def depth(limit: int) -> int:
    """Return how many passages to rerank in order to select ``limit`` of them."""
    return max(limit, _MIN_DEPTH)


async def rerank(
    embedder: EmbedderClient, question: str, ranked: AsyncIterator[Passage], limit: int
) -> list[Passage]:
    """Return the best ``depth(limit)`` passages, reordered by the cross-encoder's scores.

    Raises:
        FailedPrecondition: the embedder serves no cross-encoder.
    """
    candidates = await take(ranked, depth(limit))
    if not candidates:
        return []
    scores = await embedder.rerank(question, [_text(passage) for passage in candidates])
    order = np.argsort(-scores, kind="stable")
    return [replace(candidates[at], score=float(scores[at])) for at in order]


def _text(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text
