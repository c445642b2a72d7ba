import functools
from collections.abc import Sequence

import numpy as np
import pytest

from services.embedder.models.model import RuntimeTrial, Vectors
from services.embedder.models.runtime_trials import Sample, batch_by_length, run_trials, unit_length
from services.embedder.models.runtimes import TokenIds
from tests.fakes.runtimes import NoisyRuntime

SAMPLE = Sample([[side, n] for side in (1, 2) for n in range(24)])


class Broken(NoisyRuntime):
    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        raise RuntimeError("unsupported operation")


def _same(runtime: NoisyRuntime) -> NoisyRuntime:
    return runtime


def trials(*runtimes: NoisyRuntime) -> dict[str, RuntimeTrial]:
    everything = [NoisyRuntime("reference"), *runtimes]
    found = run_trials([functools.partial(_same, runtime) for runtime in everything], SAMPLE)
    return {trial.runtime: trial for trial in found}


def test_the_reference_agrees_with_itself() -> None:
    reference = trials()["reference"]
    assert reference.mean_cosine == pytest.approx(1)
    assert reference.min_cosine == pytest.approx(1)
    assert reference.batch_invariance == pytest.approx(1)
    assert reference.texts_per_second > 0


def test_noise_lowers_the_cosines_but_not_the_batch_invariance() -> None:
    near = trials(NoisyRuntime("near", noise=0.5))["near"]
    assert 0.8 < near.min_cosine < near.mean_cosine < 0.95
    assert near.batch_invariance == pytest.approx(1)


def test_noise_of_the_batch_lowers_the_batch_invariance() -> None:
    assert trials(NoisyRuntime("coupled", batch_noise=0.02))["coupled"].batch_invariance < 0.999


def test_a_runtime_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert list(trials(Broken("broken"), NoisyRuntime("good"))) == ["reference", "good"]
    assert "unsupported operation" in caplog.text


def test_a_runtime_whose_vectors_are_not_finite_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert list(trials(NoisyRuntime("empty", noise=float("nan")))) == ["reference"]
    assert "not finite" in caplog.text


def test_a_hit_is_a_query_whose_nearest_passage_is_its_own() -> None:
    queries = np.eye(3, dtype=np.float32)
    passages = np.eye(3, dtype=np.float32)[[0, 2, 1]]
    assert Sample([[0]] * 6).top1_hits(np.vstack([queries, queries])) == 3
    assert Sample([[0]] * 6).top1_hits(np.vstack([queries, passages])) == 1


def test_the_bundled_sample_has_all_queries_before_their_passages() -> None:
    texts: list[str] = []

    def tokenize(text: str) -> list[int]:
        texts.append(text)
        return [len(text)]

    sample = Sample.bundled(tokenize)
    half = len(sample.texts) // 2
    assert len(texts) == 2 * half
    assert half >= 20
    assert max(map(len, texts[:half])) < max(map(len, texts[half:]))


def test_batches_hold_texts_of_similar_length_within_the_limit() -> None:
    texts = [[0] * length for length in (5, 1, 9, 2, 30, 4)]
    batches = list(batch_by_length(texts, 12))
    assert batches == [[1, 3, 5], [0], [2], [4]]


def test_rows_are_scaled_to_length_one() -> None:
    assert unit_length(np.array([[3, 4], [0, 2]], np.float32)).tolist() == [
        pytest.approx([0.6, 0.8]),
        [0, 1],
    ]
