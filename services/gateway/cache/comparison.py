"""Compares two prompts as a lookup in the semantic tier does, but without any entry."""

from dataclasses import dataclass

import numpy as np

from services.errors import InvalidArgument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.questions import question_of
from services.gateway.cache.types import Bound
from services.gateway.cache.vectors import clamp_cosine
from services.gateway.cache.verifier.model import Judgement, log_odds
from services.gateway.cache.verifier.pair_verifier import PairVerifier

MAX_CHARACTERS = 10_000
_ANSWER = "answer"  # any id, because there is one answer


@dataclass(frozen=True)
class ComparedPair:
    """What the semantic cache makes of two prompts.

    Attributes:
        similarity: their cosine.
        probability: the verifier's probability that both ask the same.
        contradicts: whether a difference rules that out.
        difference: the kind of that difference, for example ``number``; or "".
        is_hit: whether a cache without observations would serve the answer to one for the other.
    """

    similarity: float
    probability: float
    contradicts: bool
    difference: str
    is_hit: bool


class PairComparison:
    """Compares prompts. ``bound`` is the bound of lookups that name none."""

    def __init__(self, embedder: EmbedderClient, verifier: PairVerifier, bound: Bound) -> None:
        self._embedder = embedder
        self._verifier = verifier
        self._bound = bound
        self._budget = ErrorBudget()

    async def compare(self, one: str, other: str) -> ComparedPair:
        """Compare two prompts.

        Raises:
            InvalidArgument: a prompt is blank, or longer than ``MAX_CHARACTERS``.
        """
        _validate(one, "one")
        _validate(other, "other")
        vectors = await self._embedder.embed_queries([one, other])
        questions = question_of(one, vectors.only(0)), question_of(other, vectors.only(1))
        similarity = clamp_cosine(float(np.dot(*vectors.rows)))
        judgement = await self._verifier.judge(*questions, similarity)
        return ComparedPair(
            similarity,
            judgement.probability,
            judgement.contradicts,
            judgement.difference,
            self._is_hit(similarity, judgement),
        )

    def _is_hit(self, similarity: float, judgement: Judgement) -> bool:
        if self._bound.min_similarity is not None:
            return similarity >= self._bound.min_similarity and not judgement.rejected
        features = self._budget.features([(similarity, _ANSWER)], log_odds(judgement.probability))
        bound = self._budget.min_probability(self._bound.max_error_rate or 0.0)
        return not judgement.contradicts and self._budget.probability(features) >= bound


def _validate(prompt: str, field: str) -> None:
    if not prompt.strip():
        raise InvalidArgument("EMPTY_PROMPT", f"{field} is empty. Send a text.", field=field)
    if len(prompt) > MAX_CHARACTERS:
        raise InvalidArgument(
            "PROMPT_TOO_LONG",
            f"{field} has {len(prompt)} characters. Send at most {MAX_CHARACTERS}.",
            field=field,
            limit=MAX_CHARACTERS,
        )
