import numpy as np
import pytest

from services.gateway.rag.calibration import fit, halves

RANDOM = np.random.default_rng(7)


def test_the_threshold_separates_both_kinds() -> None:
    calibration = fit(np.linspace(0.5, 0.9, 50), np.linspace(0.1, 0.4, 200))
    assert 0.4 < calibration.min_score <= 0.5
    assert calibration.probability(0.9) > 0.8
    assert calibration.probability(0.1) < 0.2


def test_probabilities_are_those_of_even_numbers_of_both_kinds() -> None:
    yes, no = RANDOM.normal(0.6, 0.1, 4000), RANDOM.normal(0.4, 0.1, 1000)
    calibration = fit(yes, no)
    assert calibration.min_score == pytest.approx(0.5, abs=0.03)
    assert calibration.middle == pytest.approx(0.5, abs=0.01)
    for score in (0.4, 0.5, 0.6):  # two normal distributions give a logistic curve with slope 20
        true = 1 / (1 + np.exp(-20 * (score - 0.5)))
        assert calibration.probability(score) == pytest.approx(true, abs=0.1)


def test_of_equal_thresholds_the_median_is_chosen() -> None:
    calibration = fit(np.array([0.2, 0.4, 0.6]), np.array([0.1, 0.3, 0.5]))
    assert calibration.min_score == pytest.approx(0.35)


def test_halves_are_disjoint_and_always_the_same() -> None:
    scores = [float(number) for number in range(41)]
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
    errors = [np.mean(yes < cut) + np.mean(no >= cut) for cut in (values[1:] + values[:-1]) / 2]
    assert np.mean(yes < threshold) + np.mean(no >= threshold) == pytest.approx(min(errors))
