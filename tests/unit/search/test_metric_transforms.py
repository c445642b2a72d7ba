import numpy as np
import pytest

from services.search import metric_transforms
from services.search.metric_transforms import (
    HEADROOM,
    CosineTransform,
    Float32Array,
    exact_scores,
    fit,
    metric_transform,
    norms,
)

METRICS = ["cosine", "ip", "l2"]


@pytest.fixture(scope="module")
def rows() -> Float32Array:
    generator = np.random.default_rng(0)
    return (generator.normal(size=(500, 24)) * generator.uniform(0.5, 2, (500, 1))).astype("<f4")


@pytest.fixture(scope="module")
def query() -> Float32Array:
    return np.random.default_rng(1).normal(size=24).astype("<f4")


@pytest.mark.parametrize("metric", METRICS)
def test_cosines_of_transformed_vectors_give_the_scores_of_the_metric(
    metric: str, rows: Float32Array, query: Float32Array
) -> None:
    transform = metric_transform(metric, *fit(norms(rows)))
    stored = transform.transform(rows).astype(float)
    cosines = stored @ transform.transform_query(query).astype(float)
    query_norm = float(np.linalg.norm(query.astype(float)))
    scores = [transform.inverse(float(cosine), query_norm) for cosine in cosines]
    similarities, distances = exact_scores(metric, query, rows)
    assert [one[0] for one in scores] == pytest.approx(similarities, abs=1e-4)
    assert [one[1] for one in scores] == pytest.approx(distances, abs=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_transformed_vectors_have_norm_1(
    metric: str, rows: Float32Array, query: Float32Array
) -> None:
    transform = metric_transform(metric, *fit(norms(rows)))
    assert norms(transform.transform(rows)) == pytest.approx(np.ones(500), abs=1e-5)
    assert norms(transform.transform_query(query)[None])[0] == pytest.approx(1, abs=1e-6)


def test_the_transform_of_a_zero_query_scores_0_for_the_inner_product(rows: Float32Array) -> None:
    transform = metric_transform("ip", *fit(norms(rows)))
    vector = transform.transform_query(np.zeros(24, "<f4"))
    assert norms(vector[None])[0] == pytest.approx(1)
    assert transform.inverse(0.7, 0.0) == (0.0, 0.0)


def test_a_transform_accepts_norms_with_headroom(rows: Float32Array) -> None:
    max_norm, scale = fit(norms(rows))
    assert max_norm == pytest.approx(HEADROOM * metric_transforms.largest_norm(rows))
    assert scale == pytest.approx(float(np.median(norms(rows))))
    assert fit(np.zeros(0)) == (HEADROOM, 1.0)
    assert fit(np.zeros(3)) == (HEADROOM, 1.0)


def test_cosines_accept_every_norm_and_need_no_rescoring() -> None:
    assert CosineTransform().max_norm == np.inf
    assert not CosineTransform().needs_rescoring(1e6)
    assert not metric_transform("ip", 2.0, 1.0).needs_rescoring(4.9)
    assert metric_transform("ip", 2.0, 1.0).needs_rescoring(5.1)
    assert metric_transform("l2", 2.0, 1.0).needs_rescoring(0.1)


def test_exact_scores_are_those_of_the_contract() -> None:
    query, rows = np.array([1, 0], "<f4"), np.array([[1, 0], [3, 4]], "<f4")
    expected = {
        "cosine": ([1, 0.6], [0, 0.4]),
        "ip": ([1, 3], [-1, -3]),
        "l2": ([1, 1 / (1 + 20**0.5)], [0, 20**0.5]),
    }
    for metric, (similarities, distances) in expected.items():
        scores = exact_scores(metric, query, rows)
        assert scores[0] == pytest.approx(similarities)
        assert scores[1] == pytest.approx(distances)


def test_the_tolerance_of_distances_is_relative_above_1() -> None:
    assert metric_transforms.with_tolerance(0.5) == pytest.approx(0.500001, abs=1e-12)
    assert metric_transforms.with_tolerance(-1000.0) == pytest.approx(-999.999, abs=1e-9)
