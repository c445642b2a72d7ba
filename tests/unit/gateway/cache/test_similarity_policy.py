import asyncio
from typing import Any

import numpy as np
import pytest

from services.gateway.cache.similarity_policy import SimilarityPolicy, is_near_enough
from services.gateway.cache.types import Bound, Entry, Scope
from services.gateway.cache.vectors import pack
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import (
    WEIGHTS,
    Judgement,
    Question,
    Verifier,
    probability_from_cosine,
)
from services.gateway.cache.verifier.pair_verifier import PairVerifier

POLICY = SimilarityPolicy(PairVerifier(Verifier.load(), None))
NEAR = Bound(min_similarity=0.95)
ASKED = "How do I turn dark mode on?"
SAME, OPPOSITE = "How can I turn dark mode on?", "How do I turn dark mode off?"


def entry(prompt: str) -> Entry:
    vector = pack(np.ones(4, np.float32))
    return Entry("e", prompt, "!", Scope(), "f", {}, 0.0, 0.0, vector=vector, digest="d")


def decide(
    prompt: str,
    similarity: float,
    bound: Bound = NEAR,
    *,
    asked: str = ASKED,
    min_probability: float = 0.0,
) -> tuple[str, str]:
    decision = asyncio.run(
        POLICY.decide(
            Question(LexicalText(asked)), entry(prompt), similarity, bound, min_probability
        )
    )
    return decision.kind, decision.miss_reason


@pytest.mark.parametrize(
    ("similarity", "bound", "outcome"),
    [
        (0.94, Bound(min_similarity=0.9), ("semantic", "")),
        (0.96, Bound(min_similarity=0.97), ("miss", "not_similar")),
        (0.5, Bound(min_similarity=0.0), ("semantic", "")),  # zero is a bound
    ],
)
def test_the_bound_decides(similarity: float, bound: Bound, outcome: tuple[str, str]) -> None:
    assert decide(SAME, similarity, bound) == outcome


def test_under_an_error_budget_a_probable_prompt_counts_as_near() -> None:
    assert is_near_enough(0.85, Bound(max_error_rate=0.01))
    assert not is_near_enough(0.75, Bound(max_error_rate=0.5))


def test_a_contradiction_is_not_served_at_any_similarity() -> None:
    assert decide(OPPOSITE, 1.0) == ("miss", "contradicts")
    assert decide(OPPOSITE, 0.5, Bound(min_similarity=0.4)) == ("miss", "contradicts")


def test_a_lookup_by_vector_has_no_words_to_contradict() -> None:
    assert decide(OPPOSITE, 1.0, asked="") == ("semantic", "")
    decision = asyncio.run(POLICY.decide(Question(LexicalText("")), entry(OPPOSITE), 0.97, NEAR))
    assert decision.probability == probability_from_cosine(0.97)


def test_in_a_conversation_the_content_words_must_be_equal() -> None:
    asked = "And on my phone?"
    assert decide("And on my tablet?", 0.96, asked=asked, min_probability=0.01)[0] == "miss"
    assert decide("and on my phone", 0.96, asked=asked, min_probability=0.01)[0] == "semantic"
    assert decide("and on my phone", 0.96, asked=asked, min_probability=1.0) == (
        "miss",
        "contradicts",
    )


def test_in_a_conversation_the_cross_encoder_is_not_asked() -> None:
    class FakeEmbedder:
        asked = 0

        async def score_pairs(self, *_: object) -> tuple[list[float], str]:
            self.asked += 1
            return [-9.0], "of another model"

    embedder: Any = FakeEmbedder()
    policy = SimilarityPolicy(PairVerifier(Verifier.load(), embedder))
    question = Question(LexicalText("How about on a phone?"))
    for min_probability, calls in ((0.6, 0), (0.0, 1)):
        asyncio.run(policy.decide(question, entry("And on my phone?"), 0.98, NEAR, min_probability))
        assert embedder.asked == calls


def test_entries_that_are_not_near_enough_are_not_compared() -> None:
    class Untouchable(Verifier):
        def judge(self, *pair: object) -> Judgement:
            raise AssertionError

    verifier = PairVerifier(Untouchable(np.load(WEIGHTS, allow_pickle=False)), None)
    policy = SimilarityPolicy(verifier)
    decision = asyncio.run(policy.decide(Question(LexicalText(ASKED)), entry(SAME), 0.94, NEAR))
    assert (decision.miss_reason, decision.probability) == ("not_similar", None)


def test_similarities_stay_in_range() -> None:
    question = Question(LexicalText(ASKED))
    decision = asyncio.run(POLICY.decide(question, entry(SAME), 1.0000001, NEAR))
    assert decision.similarity == 1.0
