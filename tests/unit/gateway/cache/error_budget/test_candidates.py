import asyncio
from typing import Any

import numpy as np
import pytest

from services.gateway.cache.error_budget.candidates import (
    MAX_COMPARED,
    Candidate,
    Requirements,
    answer_id,
    choose_candidate,
    may_follow,
    same_answer,
)
from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Judgement, Question, Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier

VERIFIER = PairVerifier(Verifier.load(), None)
NEAR = np.array([[1, 0], [0.95, 0.3122499]], np.float32)
FAR = np.array([[1, 0], [0.6, 0.8]], np.float32)


def question(text: str) -> Question:
    return Question(LexicalText(text))


def chosen(
    *prompts: str, asked: str = "How do I turn dark mode on?", min_probability: float = 0.0
) -> int | None:
    candidates = [Candidate(question(prompt), 0.95, prompt) for prompt in prompts]
    choice = asyncio.run(
        choose_candidate(
            ErrorBudget(), VERIFIER, question(asked), candidates, Requirements(min_probability)
        )
    )
    return choice[0] if choice else None


def test_the_nearest_candidate_that_does_not_contradict_is_chosen() -> None:
    opposite, same = "How do I turn dark mode off?", "How do I turn on dark mode?"
    assert chosen(opposite, same) == 1
    assert chosen(opposite) is None
    assert chosen(opposite, asked="") == 0  # a lookup by vector has no words
    assert chosen() is None


def test_in_a_conversation_the_content_words_must_be_equal() -> None:
    assert chosen("And on my tablet?", asked="And on my phone?", min_probability=0.01) is None
    assert chosen("on my phone and?", asked="And on my phone?", min_probability=0.01) == 0
    one, other = question("And on my phone?"), question("on my phone, and?")
    assert may_follow(one, other, 0.8, 0.8)
    assert not may_follow(one, other, 0.79, 0.8)


def test_farther_candidates_count_as_neighbours_only() -> None:
    prompts = ("How do I turn dark mode off?", "How do I turn on dark mode?", "Is it dark?")
    candidates = [Candidate(question(prompt), 0.9, prompt) for prompt in prompts]
    budget, asked = ErrorBudget(), question("How do I turn dark mode on?")
    choice = asyncio.run(choose_candidate(budget, VERIFIER, asked, candidates))
    _, features = choice or (0, None)
    assert features is not None
    assert features.answer_id == prompts[1]


@pytest.mark.parametrize(
    ("one", "other", "vectors", "same"),
    [
        ("Press  it.", "press it.", None, True),
        ("Press it.", "Push it.", None, False),
        ("Press it.", "Push it.", NEAR, True),
        ("Press it.", "Leave it.", FAR, False),
        ("It takes 2 days.", "It takes 3 days.", NEAR, False),
        ("You can.", "You can not.", NEAR, False),
    ],
)
def test_answers_count_as_equal_only_if_that_is_certain(
    one: str, other: str, vectors: np.ndarray | None, same: bool
) -> None:
    assert same_answer(one, other, vectors) is same


def test_of_long_answers_only_the_ends_are_compared() -> None:
    long = "word " * MAX_COMPARED
    assert answer_id(long + "end") == answer_id(long.upper() + "END")
    assert answer_id(long + "end") != answer_id(long + "other")
    assert same_answer(long, long.replace("word word", "word other", 1)) is False
    assert same_answer(f"{long}2{long}", f"{long}3{long}")  # the price of bounded work


def test_answer_ids_ignore_letter_case_and_spacing() -> None:
    assert answer_id("Press  It.\n") == answer_id("press it.")
    assert answer_id("Press it.") != answer_id("Press it?")


def test_both_stages_judge_unless_the_first_one_serves_within_the_rate() -> None:
    asked, stored = "How do I turn dark mode on?", "How do I turn on dark mode?"
    served: list[bool] = []

    class Verifier:
        async def judge(self, one: Any, other: Any, similarity: float, suffices: Any) -> Judgement:
            served.append(suffices(0.97))
            return Judgement(0.97, contradicts=False, is_unlikely=False)

    verifier: Any = Verifier()
    candidates = [Candidate(question(stored), 0.98, "a")]
    for rate in (0.0, 0.001, 0.3):
        asyncio.run(
            choose_candidate(
                ErrorBudget(),
                verifier,
                question(asked),
                candidates,
                Requirements(max_error_rate=rate),
            )
        )
    assert served == [False, False, True]
