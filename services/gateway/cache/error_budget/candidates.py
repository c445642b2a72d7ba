"""Chooses the candidate that an error budget decides on, and compares answers."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.types import CandidateFeatures
from services.gateway.cache.verifier.features import contradiction
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, log_odds, probability_from_cosine
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from services.gateway.digests import digest

# The cosine from which two answers may count as the same. The wording of one model's answers varies
# by that much. A higher value would teach the budget that correct answers are wrong.
SAME_ANSWER = 0.9
MAX_COMPARED = 16384  # characters at each end of an answer; the comparison runs in the event loop


@dataclass(frozen=True)
class Candidate:
    """A cached question, its cosine similarity to the new question, and the id of its answer."""

    question: Question
    similarity: float
    answer_id: str


@dataclass(frozen=True)
class Requirements:
    """What a candidate must meet.

    Attributes:
        min_probability: set in a conversation; see ``may_follow``.
        max_error_rate: the largest share of wrong hits. Both stages of the verifier judge a
            candidate only if the first one alone does not serve it; with 0, both always do.
    """

    min_probability: float = 0.0
    max_error_rate: float = 0.0


async def choose_candidate(
    budget: ErrorBudget,
    verifier: PairVerifier,
    question: Question,
    candidates: Sequence[Candidate],
    requirements: Requirements = Requirements(),
) -> tuple[int, CandidateFeatures] | None:
    """Return the index and features of the nearest candidate that may answer, or None.

    Args:
        budget: makes the features.
        verifier: excludes candidates that contradict the question.
        question: the new question.
        candidates: cached questions, from near to far.
        requirements: what the candidate must meet.
    """
    min_probability = requirements.min_probability
    for index, candidate in enumerate(candidates):
        rest = [(other.similarity, other.answer_id) for other in candidates[index:]]
        probability = probability_from_cosine(candidate.similarity)
        if question.text.raw:  # a lookup by vector has no words to compare
            judgement = await verifier.judge(
                question,
                candidate.question,
                candidate.similarity,
                functools.partial(_is_served, budget, rest, requirements.max_error_rate),
            )
            probability = judgement.probability
            if min_probability and not may_follow(
                question, candidate.question, probability, min_probability
            ):
                continue
            if judgement.contradicts:
                continue
        return index, budget.features(rest, log_odds(probability))
    return None


def _is_served(
    budget: ErrorBudget,
    candidates: Sequence[tuple[float, str]],
    max_error_rate: float,
    probability: float,
) -> bool:
    """Return whether a budget serves the nearest candidate with a probability of the verifier."""
    if not max_error_rate:
        return False
    features = budget.features(candidates, log_odds(probability))
    return budget.probability(features) >= budget.min_probability(max_error_rate)


def may_follow(
    question: Question, cached: Question, probability: float, min_probability: float
) -> bool:
    """Return whether two prompts of a conversation are similar enough to share an answer."""
    return probability >= min_probability and question.text.same_content(cached.text)


def answer_id(text: str) -> str:
    """Return an id that is equal for answers that differ only in letter case and spacing."""
    return digest(_normalize(text))[:16]


def same_answer(one: str, other: str, vectors: NDArray[np.float32] | None = None) -> bool:
    """Return whether two answers certainly mean the same.

    ``vectors`` are the answers' unit vectors, float32 [2, dimensions], if known.
    """
    if _normalize(one) == _normalize(other):
        return True
    if vectors is None or float(vectors[0] @ vectors[1]) < SAME_ANSWER:
        return False
    return not contradiction(LexicalText(one[:MAX_COMPARED]), LexicalText(other[:MAX_COMPARED]))


def _normalize(text: str) -> str:
    """Return a text without letter case and spacing; only the start and the end of a long one."""
    if len(text) > 2 * MAX_COMPARED:
        text = text[:MAX_COMPARED] + text[-MAX_COMPARED:]
    return " ".join(text.casefold().split())
