import numpy as np
import pytest

from services.gateway.cache.error_budget import recent_lookups as module
from services.gateway.cache.error_budget.recent_lookups import RecentLookups, base_rate_shift


def test_the_latest_different_lookups_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS", 2)
    recent = RecentLookups()
    assert recent.rows().shape == (0, 7)
    for value in (1.0, 2.0, 1.0, 3.0):
        recent.add((value,) * 7)
    assert recent.rows()[:, 0].tolist() == [1.0, 3.0]
    assert recent.count == 4


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_the_shift_follows_the_share_of_correct_candidates(share: float) -> None:
    """Scores of correct candidates are normal around 2, the others around -2, with variance 4."""
    rng = np.random.default_rng(1)
    correct = rng.random(2000) < share
    scores = rng.normal(np.where(correct, 2.0, -2.0), 2.0)  # the log odds under equal shares
    expected = np.log(share / (1 - share))
    assert base_rate_shift(scores, 0.5) == pytest.approx(expected, abs=0.4)


def test_the_shift_is_limited_and_zero_without_lookups() -> None:
    assert base_rate_shift(np.zeros(0), 0.4) == pytest.approx(0)
    assert base_rate_shift(np.full(500, 9.0), 0.4) == module.MAX_RISE
    assert base_rate_shift(np.full(500, -9.0), 0.4) == -module.MAX_FALL
