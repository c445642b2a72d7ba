from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.cache.error_budget.policy import MIN_PROBABILITY, ErrorBudget
from services.gateway.cache.error_budget.types import MAX_OBSERVATIONS, Observation
from services.gateway.cache.types import CandidateFeatures

NEAR = [(0.9, "a"), (0.8, "b")]


def observe(
    budget: ErrorBudget,
    features: CandidateFeatures,
    *,
    correct: bool,
    served: bool = False,
    found: str = "",
) -> Observation:
    return Observation(features, correct, served, 1.0, budget.probability(features), found)


def test_without_observations_the_prior_decides() -> None:
    budget = ErrorBudget()
    unlikely, likely = budget.features([(0.7, "a"), (0.68, "b")], -2.0), budget.features(NEAR, 4.0)
    assert budget.probability(unlikely) < MIN_PROBABILITY
    assert budget.probability(likely) >= budget.min_probability(0.03)
    stricter = [budget.min_probability(rate) for rate in (0.1, 0.03, 0.01)]
    assert stricter == sorted(stricter)


def test_a_small_cache_says_little_about_how_near_other_questions_are() -> None:
    budget = ErrorBudget()
    others = [(0.4, str(number)) for number in range(7)]
    alone, among_others = (
        budget.features([(0.9, "a")], 1.0),
        budget.features([(0.9, "a"), *others], 1.0),
    )
    assert budget.probability(alone) < budget.probability(among_others)


def test_lookups_without_outcomes_show_how_often_the_cache_holds_the_answer() -> None:
    frequent, rare = ErrorBudget(), ErrorBudget()
    for number in range(200):
        near = [(0.9 + number / 1e4, f"{number}"), (0.6, "b")]
        frequent.record_lookup(frequent.features(near, 2.0))
        far = [(0.6 + number / 1e4, f"{number}"), (0.55, "b")]
        rare.record_lookup(rare.features(far, -3.0))
    features = ErrorBudget().features(NEAR, 1.0)
    assert rare.probability(features) < ErrorBudget().probability(features)
    assert ErrorBudget().probability(features) < frequent.probability(features)
    assert frequent.min_probability(0.03) < rare.min_probability(0.03)


@settings(max_examples=30)
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
def test_answers_more_likely_wrong_than_right_are_never_served(
    rows: list[Any], rate: float
) -> None:
    budget = ErrorBudget()
    for cosine, name, odds, correct, served, weight in rows:
        features = budget.features([(cosine, name), (cosine - 0.1, "b")], odds)
        budget.add([Observation(features, correct, served, weight, budget.probability(features))])
        assert 0 < budget.probability(features) < 1
    assert MIN_PROBABILITY <= budget.min_probability(rate) <= 1


def test_a_new_answer_profits_from_observations_of_other_answers() -> None:
    budget = ErrorBudget()
    fresh = budget.features([(0.8, "fresh"), (0.5, "other")], 0.0)
    assert budget.probability(fresh) < budget.min_probability(0.05)
    for number in range(60):
        features = budget.features([(0.8, f"{number}"), (0.5, "other")], 0.0)
        budget.add([observe(budget, features, correct=True)])
        far = budget.features([(0.5, f"{number}"), (0.49, "other")], -3.0)
        budget.add([observe(budget, far, correct=False)])
    assert budget.probability(fresh) >= budget.min_probability(0.05)


def test_an_answer_that_was_wrong_is_no_longer_served() -> None:
    budget = ErrorBudget()
    for number in range(60):
        features = budget.features([(0.9, f"{number % 6}"), (0.5, "other")], 2.0)
        budget.add([observe(budget, features, correct=True)])
    features = budget.features([(0.9, "1"), (0.5, "other")], 2.0)
    assert budget.probability(features) >= budget.min_probability(0.1)
    for _ in range(3):
        budget.add([observe(budget, features, correct=False)])
    again = budget.features([(0.9, "1"), (0.5, "other")], 2.0)
    spared = budget.features([(0.9, "2"), (0.5, "other")], 2.0)
    assert budget.probability(again) < budget.min_probability(0.03)
    assert budget.probability(again) < budget.probability(spared)


def test_more_wrong_hits_than_expected_raise_the_minimum_probability() -> None:
    calm, alarmed = ErrorBudget(), ErrorBudget()
    for number in range(40):
        for budget, correct in ((calm, True), (alarmed, number % 4 > 0)):
            features = budget.features(NEAR, 3.0)
            budget.add([observe(budget, features, correct=correct, served=True)])
    features = calm.features(NEAR, 3.0)
    assert calm.probability(features) >= calm.min_probability(0.1)
    assert alarmed.probability(alarmed.features(NEAR, 3.0)) < alarmed.min_probability(0.1)
    assert (calm.error_counts(), alarmed.error_counts()) == ((0, 40), (10, 40))


def test_answers_found_to_be_equal_share_their_observations() -> None:
    budget = ErrorBudget()
    apart = budget.features(NEAR, 0.0)
    budget.add([observe(budget, budget.features([(0.9, "a")], 0.0), correct=True, found="b")])
    together = budget.features(NEAR, 0.0)
    assert apart.values[4:6] < together.values[4:6]


def test_a_batch_of_observations_teaches_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    one_by_one, batch, rows = ErrorBudget(), ErrorBudget(), []
    for _ in range(200):
        cosine = rng.uniform(0.5, 1)
        features = ErrorBudget().features(
            [(cosine, str(rng.integers(9))), (0.4, "x")], 8 * cosine - 6
        )
        rows.append(Observation(features, bool(rng.random() < cosine), False, 1.0, 0.5))
        one_by_one.add(rows[-1:])
    batch.add(rows)
    assert one_by_one.min_probability(0.1) == pytest.approx(batch.min_probability(0.1), abs=1e-3)
    assert one_by_one.probability(features) == pytest.approx(batch.probability(features), abs=1e-3)


def test_old_observations_are_dropped_and_the_shadow_rate_falls() -> None:
    budget = ErrorBudget()
    assert budget.shadow_rate() == 1
    features = budget.features(NEAR, 3.0)
    old = Observation(features, False, True, 1.0, 0.9)
    budget.add([old] * 100 + [Observation(features, True, True, 1.0, 0.9)] * MAX_OBSERVATIONS)
    assert budget.error_counts() == (0, MAX_OBSERVATIONS)
    assert budget.shadow_rate() < 0.05


def test_observations_with_other_features_are_ignored() -> None:
    budget = ErrorBudget()
    budget.add([Observation(CandidateFeatures("a", (1.0, 2.0)), False, True, 1.0, 0.9)])
    assert budget.error_counts() == (0, 0)


def test_answers_without_observations_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.cache.error_budget.policy.MAX_OBSERVATIONS", 10)
    budget = ErrorBudget()
    for number in range(60):
        features = budget.features([(0.9, f"{number}"), (0.5, "other")], 1.0)
        budget.add([observe(budget, features, correct=number % 2 > 0)])
    records = [budget.features([(0.9, name)], 1.0).values[-1] for name in ("1", "58", "59")]
    assert records[0] == 0 > records[1]
    assert records[2] > 0


@pytest.mark.parametrize(("rate", "min_hits"), [(0.02, 15), (0.05, 100), (0.1, 200)])
def test_wrong_hits_stay_within_the_budget(rate: float, min_hits: int) -> None:
    """The verifier is overconfident, and some answers are worse than others."""
    rng, budget = np.random.default_rng(1), ErrorBudget()
    hits = wrong = 0
    for _ in range(1500):
        cosine, name = rng.uniform(0.5, 1), int(rng.integers(40))
        correct = bool(rng.random() < 1 / (1 + np.exp(-30 * (cosine - 0.75 - 0.003 * name))))
        features = budget.features(
            [(cosine, str(name)), (cosine - 0.2, "other")], 40 * (cosine - 0.7)
        )
        budget.record_lookup(features)
        probability, share = budget.probability(features), 1.0
        served = probability >= budget.min_probability(rate)
        if served:
            hits, wrong, share = hits + 1, wrong + (not correct), budget.shadow_rate()
            if rng.random() >= share:
                continue
        budget.add([Observation(features, correct, served, 1 / share, probability)])
    # A few more by chance, and one before any observation.
    assert wrong <= rate * hits + 2 * np.sqrt(rate * hits) + 1
    assert hits > min_hits
