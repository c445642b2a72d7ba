"""Decides whether one entry may answer a question under a minimum similarity."""

from services.gateway.cache.error_budget.candidates import may_follow
from services.gateway.cache.questions import cached_question
from services.gateway.cache.types import Bound, Decision, Entry
from services.gateway.cache.vectors import clamp_cosine
from services.gateway.cache.verifier.model import Question, probability_from_cosine
from services.gateway.cache.verifier.pair_verifier import PairVerifier

PROBABLE = 0.5  # under an error budget, the probability from which a prompt counts as similar


class SimilarityPolicy:
    """Serves an entry that is near enough unless the verifier rejects it."""

    def __init__(self, verifier: PairVerifier) -> None:
        self._verifier = verifier

    async def decide(
        self,
        question: Question,
        entry: Entry,
        similarity: float,
        bound: Bound,
        min_probability: float = 0.0,
    ) -> Decision:
        """Return a semantic hit on an entry, or a miss and its reason.

        Args:
            question: the prompt; its text is empty for a lookup by vector.
            entry: the candidate.
            similarity: cosine similarity of the two prompts.
            bound: names the minimum similarity.
            min_probability: set in a conversation; see ``may_follow``.
        """
        similarity = clamp_cosine(similarity)
        if not is_near_enough(similarity, bound):
            return _miss(entry, similarity, None, "not_similar")
        if not question.text.raw:
            probability, rejected = probability_from_cosine(similarity), False
        else:
            cached = cached_question(entry)
            # The cross-encoder reads only the last prompts, and "How about on a phone?" means
            # little without the messages before it. So in a conversation the first stage suffices.
            judgement = await self._verifier.judge(
                question, cached, similarity, lambda first: 0 < min_probability <= first
            )
            probability, rejected = judgement.probability, judgement.rejected
            if min_probability and not may_follow(question, cached, probability, min_probability):
                rejected = True
        if rejected:
            return _miss(entry, similarity, probability, "contradicts")
        return Decision("semantic", entry, similarity, probability)


def _miss(entry: Entry, similarity: float, probability: float | None, reason: str) -> Decision:
    return Decision("miss", None, similarity, probability, reason, nearest=entry.as_nearest)


def is_near_enough(similarity: float, bound: Bound) -> bool:
    """Return whether a similarity meets a bound, or under an error budget is probably enough."""
    if bound.min_similarity is not None:
        return similarity >= bound.min_similarity
    return probability_from_cosine(similarity) >= PROBABLE
