import numpy as np
import pytest

from services.search import metric_transforms


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_a_lift_ranks_and_scores_as_the_metric_does(metric: str) -> None:
    random = np.random.default_rng(0)
    rows = (random.standard_normal((500, 24)) * random.uniform(0.5, 2, (500, 1))).astype("<f4")
    query = random.standard_normal(24).astype("<f4")
    max_norm, scale = metric_transforms.measure(rows)
    lift = metric_transforms.lift(metric, max_norm, scale)
    stored, asked = lift.stored(rows).astype(float), lift.asked(query).astype(float)
    if metric != "cosine":
        assert np.ptp(np.linalg.norm(stored, axis=1)) < 1e-4
    norm = float(np.linalg.norm(asked_for := query.astype(float)))
    cosines = stored @ asked / np.linalg.norm(stored, axis=1) / np.linalg.norm(asked)
    wide = rows.astype(float)
    expected = {
        "cosine": wide @ asked_for / np.linalg.norm(wide, axis=1) / np.linalg.norm(asked_for),
        "ip": wide @ asked_for,
        "l2": 1 / (1 + np.linalg.norm(wide - asked_for, axis=1)),
    }[metric]
    got = [lift.score(float(cosine), norm)[0] for cosine in cosines]
    assert got == pytest.approx(expected, abs=1e-4)
    assert list(np.argsort(cosines)[-10:]) == list(np.argsort(expected)[-10:])
