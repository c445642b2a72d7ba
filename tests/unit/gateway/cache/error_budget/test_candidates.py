import numpy as np
import pytest

from services.gateway.cache.error_budget.candidates import Candidate, answer_name, look, same_answer
from services.gateway.cache.error_budget.policy import Budget
from services.gateway.cache.verifier.features import Text
from services.gateway.cache.verifier.model import Side, Verifier

NEAR = np.array([[1, 0], [0.95, 0.3122499]], np.float32)
FAR = np.array([[1, 0], [0.6, 0.8]], np.float32)


def found(*prompts: str, asked: str = "How do I turn dark mode on?") -> int | None:
    candidates = [Candidate(Side(Text(one)), 0.95, one) for one in prompts]
    seen = look(Budget(), Verifier.load(), Side(Text(asked)), candidates)
    return seen[0] if seen else None


def test_the_nearest_that_is_no_opposite_is_looked_at() -> None:
    opposite, same = "How do I turn dark mode off?", "How do I turn on dark mode?"
    assert found(opposite, same) == 1
    assert found(opposite) is None
    assert found(opposite, asked="") == 0  # by vector: there are no words
    assert found() is None


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
def test_answers_are_the_same_only_surely(
    one: str, other: str, vectors: np.ndarray | None, same: bool
) -> None:
    assert same_answer(one, other, vectors) is same


def test_names_of_answers_overlook_case_and_spacing_alone() -> None:
    assert answer_name("Press  It.\n") == answer_name("press it.")
    assert answer_name("Press it.") != answer_name("Press it?")
