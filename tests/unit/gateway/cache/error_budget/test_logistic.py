import numpy as np
import pytest

from services.gateway.cache.error_budget.logistic import PriorLogisticRegression, logistic


def test_the_logistic_function_is_bounded() -> None:
    values = logistic(np.array([-1e6, -1.0, 0.0, 1.0, 1e6]))
    assert values[2] == 0.5
    assert values[1] + values[3] == pytest.approx(1)
    assert 0 < values[0] < 1e-9
    assert 1 - 1e-9 < values[4] < 1 + 1e-12


def test_without_rows_the_prior_stays() -> None:
    model = PriorLogisticRegression(np.array([1.0, -2.0]), np.ones(2))
    model.fit(np.zeros((0, 2)), np.zeros(0))
    assert model.weights.tolist() == [1, -2]


def test_many_rows_recover_the_true_weights() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([np.ones(20_000), rng.standard_normal(20_000)], 1)
    true = np.array([0.5, -1.5])
    labels = (rng.random(20_000) < logistic(rows @ true)).astype(float)
    model = PriorLogisticRegression(np.zeros(2), np.ones(2))
    model.fit(rows, labels)
    assert model.weights == pytest.approx(true, abs=0.1)
    assert model.probabilities(np.array([1.0, 0.0])) == pytest.approx(logistic(true[0]), abs=0.02)


def test_a_firm_prior_resists_few_rows() -> None:
    rows, labels = np.ones((5, 1)), np.ones(5)
    loose, firm = (
        PriorLogisticRegression(np.zeros(1), np.array([precision])) for precision in (1.0, 100.0)
    )
    for model in (loose, firm):
        model.fit(rows, labels)
    assert 0 < firm.weights[0] < 0.1 < loose.weights[0]


def test_separable_rows_converge() -> None:
    rows = np.array([[1.0, x] for x in (-2.0, -1.0, 1.0, 2.0)])
    model = PriorLogisticRegression(np.array([0.0, 2.0]), np.full(2, 0.01))
    model.fit(rows, np.array([1.0, 1.0, 0.0, 0.0]))  # against the prior's direction
    falling = model.probabilities(rows)
    assert np.isfinite(model.weights).all()
    assert (np.diff(falling) < 0).all()
    assert falling[0] > 0.9
    assert falling[3] < 0.1
