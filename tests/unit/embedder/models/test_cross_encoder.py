from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import BertForSequenceClassification, PretrainedConfig

from services.embedder.models.cross_encoder import CrossEncoderModel
from services.embedder.models.model import ModelLoadError
from tests import small_models
from tests.fakes.tokenizers import letter_tokenizer


class FakeCrossEncoder:
    """Scores a pair by the number of letters that both texts have."""

    device = torch.device("cpu")
    max_seq_length = 10
    activation_fn = staticmethod(torch.sigmoid)

    def __init__(self, labels: int = 1) -> None:
        self.num_labels = labels
        self.tokenizer = SimpleNamespace(backend_tokenizer=letter_tokenizer())

    def eval(self) -> "FakeCrossEncoder":
        return self

    def preprocess(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        return {"common": torch.tensor([[len({*a} & {*b})] for a, b in pairs]), "task": "rank"}

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"scores": features["common"].float()}


def model(labels: int = 1) -> CrossEncoderModel:
    fake: Any = FakeCrossEncoder(labels)
    return CrossEncoderModel("reranker", fake, "digest")


def test_scores_go_through_the_activation_function() -> None:
    tested = model()
    scores = tested.encode(tested.prepare([("cat", "act"), ("cat", "dog")], ""))
    assert scores.shape == (2, 1)
    assert scores[:, 0].tolist() == pytest.approx([0.952574, 0.5], abs=1e-5)


def test_tokens_are_counted_up_to_the_limit() -> None:
    short, long = model().prepare([("ab", "cd"), ("abcdef", "ghijkl")], "")
    assert (short.tokens, short.cost, short.truncated) == (7, 7, False)
    assert (long.tokens, long.cost, long.truncated) == (10, 10, True)
    assert short.key == ("ab", "cd")


def test_very_long_texts_are_cut_before_they_are_tokenised() -> None:
    [prepared] = model().prepare([("a" * 10_000, "b" * 10_000)], "")
    assert [len(text) for text in prepared.payload] == [2500, 2500]


def test_only_pairs_are_taken() -> None:
    with pytest.raises(TypeError, match="only pairs of texts"):
        model().prepare([("a", "b"), "c"], "")
    with pytest.raises(TypeError, match="only pairs of texts"):
        model().tokenize("a")


def test_a_classifier_cannot_rerank() -> None:
    with pytest.raises(ModelLoadError, match="it has 3 labels instead of one"):
        model(labels=3)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, True),
        ({"architectures": ["BertModel"]}, False),
        ({"architectures": None}, False),
        ({}, False),
        (OSError("no such model"), False),
    ],
)
def test_a_cross_encoder_is_known_by_its_configuration(
    monkeypatch: pytest.MonkeyPatch, config: Any, expected: bool
) -> None:
    def get_config_dict(name: str) -> tuple[Any, Any]:
        if isinstance(config, OSError):
            raise config
        return config, {}

    monkeypatch.setattr(PretrainedConfig, "get_config_dict", get_config_dict)
    assert CrossEncoderModel.matches("name") is expected


def test_weights_in_half_precision_compute_in_float32(tmp_path: Path) -> None:
    name = small_models.cross_encoder(tmp_path / "model")
    pairs = [("a cat", "a small cat"), ("a cat", "a train")]
    model: Any = BertForSequenceClassification.from_pretrained(name)
    model.to(torch.bfloat16).save_pretrained(name)
    loaded = CrossEncoderModel.load(name)
    expected = CrossEncoder(name, device="cpu", model_kwargs={"dtype": "float32"}).predict(pairs)
    np.testing.assert_allclose(loaded.encode(loaded.prepare(pairs, ""))[:, 0], expected, atol=1e-5)
