import numpy as np
import pytest

from services.gateway.rag.calibration import (
    MAX_LOST,
    Calibration,
    Scores,
    fit,
    fit_relevance,
    halves,
)

RANDOM = np.random.default_rng(7)


def test_the_threshold_separates_both_kinds() -> None:
    calibration = fit(np.linspace(0.5, 0.9, 50), np.linspace(0.1, 0.4, 200))
    assert 0.4 < calibration.min_score <= 0.5
    assert calibration.probability(0.9) > 0.8
    assert calibration.probability(0.1) < 0.2


def test_probabilities_are_those_of_even_numbers_of_both_kinds() -> None:
    yes, no = RANDOM.normal(0.6, 0.1, 4000), RANDOM.normal(0.4, 0.1, 1000)
    calibration = fit(yes, no)
    assert np.mean(yes < calibration.min_score) <= MAX_LOST
    assert calibration.min_score == pytest.approx(0.435, abs=0.02)
    assert calibration.middle == pytest.approx(0.5, abs=0.01)
    for score in (0.4, 0.5, 0.6):  # two normal distributions give a logistic curve with slope 20
        true = 1 / (1 + np.exp(-20 * (score - 0.5)))
        assert calibration.probability(score) == pytest.approx(true, abs=0.1)


def test_of_equal_thresholds_the_median_is_chosen() -> None:
    calibration = fit(np.array([0.6, 0.7, 0.8]), np.array([0.1, 0.2, 0.9]))
    assert calibration.min_score == pytest.approx(0.4)


def test_halves_are_disjoint_and_always_the_same() -> None:
    scores = [np.array(float(number)) for number in range(41)]
    fitted, measured = halves(scores)
    assert sorted([*fitted, *measured]) == scores
    assert (len(fitted), len(measured)) == (21, 20)
    assert list(fitted) != scores[::2]
    assert [list(one) for one in halves(scores)] == [list(fitted), list(measured)]


def test_kinds_with_equal_scores_have_a_calibration() -> None:
    calibration = fit(np.full(20, 0.5), np.full(20, 0.5))
    assert calibration.min_score == 0.5
    assert calibration.probability(0.5) == pytest.approx(0.5)


def test_the_threshold_has_the_fewest_errors() -> None:
    yes, no = (np.round(RANDOM.normal(mean, 0.1, 60), 2) for mean in (0.6, 0.5))
    threshold = fit(yes, no).min_score
    values = np.unique([*yes, *no])
    errors = [
        np.mean(yes < cut) + np.mean(no >= cut)
        for cut in [values[0], *(values[1:] + values[:-1]) / 2]
        if np.sum(yes < cut) + 1 <= MAX_LOST * (len(yes) + 1)
    ]
    assert np.mean(yes < threshold) <= MAX_LOST
    assert np.mean(yes < threshold) + np.mean(no >= threshold) == pytest.approx(min(errors))


def kinds(separation: float) -> tuple[Scores, Scores]:
    """Features of 100 questions of each kind. The first tells nothing, the second may."""
    yes, no = RANDOM.normal(0, 1, (2, 100, 3))
    yes[:, 1] += separation
    return yes, no


def test_the_features_decide_if_they_refuse_more_than_the_cosine() -> None:
    yes, no = kinds(4.0)
    calibration = fit_relevance(fit(yes[:, 0], no[:, 0]), yes, no)
    assert len(calibration.weights) == 4
    refused = [
        np.mean([calibration.relevance(row) < calibration.min_relevance for row in rows])
        for rows in (yes, no)
    ]
    assert refused[0] <= 2 * MAX_LOST
    assert refused[1] >= 0.8


def test_features_that_tell_nothing_are_left_out() -> None:
    yes, no = kinds(0.0)
    yes[:, 0] += 5
    cosine = fit(yes[:, 0], no[:, 0])
    assert fit_relevance(cosine, yes, no) == cosine


def test_calibrations_of_earlier_versions_decide_by_the_cosine() -> None:
    calibration = Calibration(min_score=0.5, slope=9.0, middle=0.4)
    assert not calibration.weights
