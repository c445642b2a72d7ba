"""What lies near a question, looked at under a budget: no entry that says the opposite is taken."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.error_budget.policy import Budget
from services.gateway.cache.types import Sighting
from services.gateway.cache.verifier.features import Text, contradiction
from services.gateway.cache.verifier.model import FLOOR_WITH_SIGN, Side, Verifier, by_cosine
from services.gateway.digests import digest

# Cosine of two answers from which they may count as the same: what the wording of one model's
# answers differs by. Taken low rather than high it would teach that wrong answers are right.
SAME_ANSWER = 0.9


@dataclass(frozen=True)
class Candidate:
    """A cached question: its cosine to the one that is asked, and its answer's name."""

    side: Side
    similarity: float
    answer: str


def look(
    budget: Budget,
    verifier: Verifier,
    asked: Side,
    candidates: Sequence[Candidate],
    least: float = 0.0,
) -> tuple[int, Sighting] | None:
    """Return the place of the nearest candidate that may answer, and what is seen of it, or None.

    The candidates come from near to far. In a conversation the verifier must find them ``least``
    likely, and their words must be the same.
    """
    for place, one in enumerate(candidates):
        probability = by_cosine(one.similarity)
        if asked.text.raw:  # else it is asked by vector: there are no words to compare
            probability = verifier.probability(asked, one.side, one.similarity)
            if least and not may_follow(asked, one.side, probability, least):
                continue
            if probability < FLOOR_WITH_SIGN and contradiction(asked.text, one.side.text):
                continue
        rest = [(other.similarity, other.answer) for other in candidates[place:]]
        return place, budget.look(rest, _log_odds(probability))
    return None


def may_follow(asked: Side, kept: Side, probability: float, least: float) -> bool:
    """Say whether one prompt of a conversation may be answered by the answer to another."""
    return probability >= least and asked.text.says_as(kept.text)


def answer_name(text: str) -> str:
    """Return what is the same for answers that differ in letter case and spacing alone."""
    return digest(_plain(text))[:16]


def same_answer(one: str, other: str, vectors: NDArray[np.float32] | None = None) -> bool:
    """Say whether two answers surely say the same; ``vectors``, unit rows [2, n], help if known."""
    if _plain(one) == _plain(other):
        return True
    if vectors is None or float(vectors[0] @ vectors[1]) < SAME_ANSWER:
        return False
    return not contradiction(Text(one), Text(other))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _log_odds(probability: float) -> float:
    inside = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))
