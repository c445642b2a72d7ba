"""Decides whether one entry may answer a question under a minimum similarity."""

from services.gateway.cache.error_budget.candidates import may_follow
from services.gateway.cache.questions import cached_question
from services.gateway.cache.types import Bound, Decision, Entry
from services.gateway.cache.vectors import clamp_cosine
from services.gateway.cache.verifier.model import Question, probability_from_cosine
from services.gateway.cache.verifier.pair_verifier import PairVerifier


class SimilarityPolicy:
    """Serves an entry that is near enough unless the verifier rejects it.

    ``min_similarity`` is the minimum cosine similarity if the request names no bound.
    """

    def __init__(self, verifier: PairVerifier, min_similarity: float) -> None:
        self._verifier = verifier
        self._min_similarity = min_similarity

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
            bound: what the request requires.
            min_probability: set in a conversation; see ``may_follow``.
        """
        similarity = clamp_cosine(similarity)
        if bound.max_error_rate is None and not self.is_near_enough(similarity, 0.0, bound):
            return Decision("miss", None, similarity, None, "not_similar")
        if not question.text.raw:
            probability, rejected = probability_from_cosine(similarity), False
        else:
            cached = cached_question(entry)
            judgement = await self._verifier.judge(question, cached, similarity)
            probability, rejected = judgement.probability, judgement.rejected
            if min_probability and not may_follow(question, cached, probability, min_probability):
                rejected = True
        if not self.is_near_enough(similarity, probability, bound):
            return Decision("miss", None, similarity, probability, "not_similar")
        if rejected:
            return Decision("miss", None, similarity, probability, "contradicts")
        return Decision("semantic", entry, similarity, probability)

    def is_near_enough(self, similarity: float, probability: float, bound: Bound) -> bool:
        """Return whether a similarity, or the probability derived from it, meets a bound."""
        if bound.max_error_rate is not None:
            return 1 - probability <= bound.max_error_rate
        if bound.min_similarity is not None:
            return similarity >= bound.min_similarity
        return similarity >= self._min_similarity
