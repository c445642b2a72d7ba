from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.cache.error_budget.policy import FLOOR, MEMORY, Budget
from services.gateway.cache.types import Observation, Sighting

NEAR = [(0.9, "a"), (0.8, "b")]


def label(
    budget: Budget, sighting: Sighting, *, right: bool, served: bool = False, found: str = ""
) -> Observation:
    return Observation(sighting, right, served, 1.0, budget.probability(sighting), found)


def test_without_labels_the_verifier_is_believed() -> None:
    budget = Budget()
    for odds in (0.01, 1.0, 99.0):
        seen = budget.look(NEAR, np.log(odds))
        assert budget.probability(seen) == pytest.approx(odds / (1 + odds))
    assert budget.bound(0.02) == pytest.approx(0.98)


@given(
    st.lists(
        st.tuples(
            st.floats(-1, 1),
            st.sampled_from("abc"),
            st.floats(-14, 14),
            st.booleans(),
            st.booleans(),
            st.floats(1, 50),
        ),
        max_size=30,
    ),
    st.floats(0.001, 0.999),
)
def test_what_is_probably_wrong_is_never_served(rows: list[Any], rate: float) -> None:
    budget = Budget()
    for cosine, name, odds, right, served, weight in rows:
        seen = budget.look([(cosine, name), (cosine - 0.1, "b")], odds)
        budget.add([Observation(seen, right, served, weight, budget.probability(seen))])
        assert 0 < budget.probability(seen) < 1
    assert FLOOR <= budget.bound(rate) <= 1


def test_a_young_answer_is_served_by_what_others_have_shown() -> None:
    budget = Budget()
    fresh = budget.look([(0.9, "fresh"), (0.5, "other")], 1.0)
    assert budget.probability(fresh) < budget.bound(0.05)
    for number in range(60):
        seen = budget.look([(0.9, f"{number}"), (0.5, "other")], 1.0)
        budget.add([label(budget, seen, right=True)])
        far = budget.look([(0.5, f"{number}"), (0.49, "other")], -3.0)
        budget.add([label(budget, far, right=False)])
    assert budget.probability(fresh) >= budget.bound(0.05)


def test_an_answer_that_was_wrong_is_no_longer_served() -> None:
    budget = Budget()
    for number in range(60):
        seen = budget.look([(0.9, f"{number % 6}"), (0.5, "other")], 2.0)
        budget.add([label(budget, seen, right=True)])
    seen = budget.look([(0.9, "1"), (0.5, "other")], 2.0)
    assert budget.probability(seen) >= budget.bound(0.1)
    for _ in range(3):
        budget.add([label(budget, seen, right=False)])
    again = budget.look([(0.9, "1"), (0.5, "other")], 2.0)
    spared = budget.look([(0.9, "2"), (0.5, "other")], 2.0)
    assert budget.probability(again) < budget.bound(0.1)
    assert budget.probability(again) < budget.probability(spared)


def test_more_wrong_hits_than_expected_tighten_the_bound() -> None:
    calm, alarmed = Budget(), Budget()
    for number in range(40):
        for budget, right in ((calm, True), (alarmed, number % 4 > 0)):
            seen = budget.look(NEAR, 3.0)
            budget.add([label(budget, seen, right=right, served=True)])
    seen = calm.look(NEAR, 3.0)
    assert calm.probability(seen) >= calm.bound(0.1)
    assert alarmed.probability(alarmed.look(NEAR, 3.0)) < alarmed.bound(0.1)
    assert (calm.wrong(), alarmed.wrong()) == ((0, 40), (10, 40))


def test_answers_found_to_be_the_same_speak_for_each_other() -> None:
    budget = Budget()
    apart = budget.look(NEAR, 0.0)
    budget.add([label(budget, budget.look([(0.9, "a")], 0.0), right=True, found="b")])
    together = budget.look(NEAR, 0.0)
    assert apart.signs[4:6] < together.signs[4:6]


def test_labels_in_one_go_say_what_they_say_one_by_one() -> None:
    dice = np.random.default_rng(0)
    one_by_one, at_once, rows = Budget(), Budget(), []
    for _ in range(200):
        cosine = dice.uniform(0.5, 1)
        seen = Budget().look([(cosine, str(dice.integers(9))), (0.4, "x")], 8 * cosine - 6)
        rows.append(Observation(seen, bool(dice.random() < cosine), False, 1.0, 0.5))
        one_by_one.add(rows[-1:])
    at_once.add(rows)
    assert one_by_one.bound(0.1) == pytest.approx(at_once.bound(0.1), abs=1e-3)
    assert one_by_one.probability(seen) == pytest.approx(at_once.probability(seen), abs=1e-3)


def test_the_oldest_labels_are_forgotten_and_fewer_hits_are_asked_again() -> None:
    budget = Budget()
    assert budget.sampling() == 1
    seen = budget.look(NEAR, 3.0)
    old = Observation(seen, False, True, 1.0, 0.9)
    budget.add([old] * 100 + [Observation(seen, True, True, 1.0, 0.9)] * MEMORY)
    assert budget.wrong() == (0, MEMORY)
    assert budget.sampling() < 0.05


def test_labels_of_another_version_are_left_out() -> None:
    budget = Budget()
    budget.add([Observation(Sighting("a", (1.0, 2.0)), False, True, 1.0, 0.9)])
    assert budget.wrong() == (0, 0)


def test_answers_that_no_label_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.cache.error_budget.policy.MEMORY", 10)
    budget = Budget()
    for number in range(60):
        seen = budget.look([(0.9, f"{number}"), (0.5, "other")], 1.0)
        budget.add([label(budget, seen, right=number % 2 > 0)])
    records = [budget.look([(0.9, name)], 1.0).signs[-1] for name in ("1", "58", "59")]
    assert records[0] == 0 > records[1]
    assert records[2] > 0


@pytest.mark.parametrize(("rate", "least"), [(0.02, 80), (0.05, 450), (0.1, 700)])
def test_wrong_hits_stay_within_the_budget(rate: float, least: int) -> None:
    """A verifier that is too sure of itself, and answers of which some are worse than others."""
    dice, budget = np.random.default_rng(1), Budget()
    hits = wrong = 0
    for _ in range(3000):
        cosine, name = dice.uniform(0.5, 1), int(dice.integers(40))
        right = bool(dice.random() < 1 / (1 + np.exp(-30 * (cosine - 0.75 - 0.003 * name))))
        seen = budget.look([(cosine, str(name)), (cosine - 0.2, "other")], 40 * (cosine - 0.7))
        probability, share = budget.probability(seen), 1.0
        served = probability >= budget.bound(rate)
        if served:
            hits, wrong, share = hits + 1, wrong + (not right), budget.sampling()
            if dice.random() >= share:
                continue
        budget.add([Observation(seen, right, served, 1 / share, probability)])
    assert wrong <= rate * hits
    assert hits > least
