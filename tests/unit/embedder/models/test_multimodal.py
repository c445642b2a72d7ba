from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from services.embedder.models.model import AudioClip
from services.embedder.models.multimodal import MultimodalRuntime


class FakeModel:
    """A model whose vector is the mean of its input, and whose batches have one modality."""

    device = "cpu"

    def __init__(self, max_samples: int | None = None) -> None:
        extractor = SimpleNamespace(sampling_rate=100)
        if max_samples:
            extractor.nb_max_samples = max_samples
        self.processor = SimpleNamespace(feature_extractor=extractor)
        self.batches: list[tuple[str, int]] = []

    def preprocess(self, inputs: list[Any]) -> dict[str, Any]:
        if isinstance(inputs[0], str):
            values = torch.tensor([[float(text)] for text in inputs])
            return {"values": values, "modality": "text"}
        [clip] = inputs
        return {"values": torch.tensor(clip["array"])[None].mean(1, True), "modality": "audio"}

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        assert torch.is_inference_mode_enabled()
        self.batches.append((features["modality"], len(features["values"])))
        return {"sentence_embedding": features["values"].repeat(1, 2)}


def clip(value: float, seconds: int = 1, rate: int = 100) -> AudioClip:
    return AudioClip(np.full(seconds * rate, value, np.float32), rate)


def runtime(model: FakeModel) -> MultimodalRuntime:
    anything: Any = model
    return MultimodalRuntime(anything)


def test_each_modality_is_one_batch_and_rows_keep_their_order() -> None:
    model = FakeModel()
    tested = runtime(model)
    clips = [tested.prepare(clip(value)).payload for value in (0.5, 0.25)]
    vectors = tested.compute(["1", clips[0], "2", "3", clips[1]])
    assert vectors[:, 0].tolist() == pytest.approx([1, 0.5, 2, 3, 0.25], abs=1e-2)
    assert vectors.shape == (5, 2)
    assert vectors.dtype == np.float32
    assert model.batches == [("text", 3), ("audio", 2)]


def test_a_clip_is_resampled_to_the_rate_of_the_model() -> None:
    seen: list[Any] = []
    model = FakeModel()
    preprocess = model.preprocess
    model.preprocess = lambda inputs: seen.append(inputs[0]) or preprocess(inputs)  # type: ignore[method-assign,func-returns-value]
    prepared = runtime(model).prepare(clip(0.5, seconds=2, rate=400))
    assert len(seen[0]["array"]) == 200
    assert seen[0]["sampling_rate"] == 100
    assert not prepared.truncated


def test_a_long_clip_is_cut_at_its_end() -> None:
    prepared = runtime(FakeModel(max_samples=150)).prepare(clip(0.5, seconds=2))
    assert prepared.truncated
    assert not runtime(FakeModel(max_samples=150)).prepare(clip(0.5)).truncated


def test_equal_inputs_have_different_keys_because_features_are_not_compared() -> None:
    tested = runtime(FakeModel())
    one, other = tested.prepare(clip(0.5)), tested.prepare(clip(0.5))
    assert one.key != other.key
