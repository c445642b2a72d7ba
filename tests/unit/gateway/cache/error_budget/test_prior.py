import numpy as np

from services.gateway.cache.error_budget.prior import FEATURES, OBSERVED, Prior, design


def test_the_shipped_prior_is_complete() -> None:
    prior = Prior.load()
    assert prior.weights.shape == (len(FEATURES),)
    assert 0 < prior.base_rate < 1
    assert (np.diff(prior.scores) >= 0).all()


def test_the_design_limits_the_verifier_and_adds_derived_features() -> None:
    rows = np.zeros((2, OBSERVED))
    rows[:, 1] = 50.0, -1.5
    assert design(rows)[:, [1, -1]].tolist() == [[6.0, 0.0], [-1.5, -1.5]]
    assert rows[0, 1] == 50.0  # the observations stay as they are
