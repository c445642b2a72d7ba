"""Cross-encoders of sentence-transformers: they read a question and a text together."""

import copy
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from transformers import PretrainedConfig

from services.embedder.models.model import Content, ModelInfo, ModelLoadError, PreparedInput, Tokens
from services.embedder.models.runtimes import best_device
from services.embedder.models.sentence_transformer import (
    fast_tokenizer,
    folder_digest,
    loading,
    token_limit,
)

_CHARACTERS_A_TOKEN = 250


class CrossEncoderModel:
    """A cross-encoder with one label; its vectors [n, 1] are scores, higher for a better answer."""

    def __init__(self, name: str, model: CrossEncoder, digest: str) -> None:
        if model.num_labels != 1:
            raise ModelLoadError(f"{name} has {model.num_labels} labels: a reranker has one")
        self._model: Any = model.eval()
        self._limit = token_limit(model)
        self._tokenizer, self._thread = fast_tokenizer(model), threading.local()
        self.info = ModelInfo(
            name=name,
            modalities=frozenset({"pair"}),
            dimensions=1,
            max_tokens=self._limit,
            runtime="torch",
            device=str(model.device),
            dtype="float32",
            digest=digest,
        )

    @classmethod
    def load(cls, name: str, *, trusted: bool = False) -> "CrossEncoderModel":
        """Load a model from a folder or the hub; code of it is run only if it is ``trusted``.

        Raises:
            ModelLoadError: it is not there, or is no cross-encoder with one label.
        """
        with loading(name):
            model = CrossEncoder(name, device=best_device(), trust_remote_code=trusted)
        return cls(name, model, folder_digest(name, model))

    @staticmethod
    def owns(name: str) -> bool:
        """Say whether a folder, or a name of the hub, holds a cross-encoder."""
        try:
            config = PretrainedConfig.get_config_dict(name)[0]
        except OSError:
            return False
        return any("SequenceClassification" in one for one in config.get("architectures") or ())

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Count the tokens of pairs; the model's own preprocessing makes its input of them."""
        most = self._limit * _CHARACTERS_A_TOKEN
        pairs = [(pair[0][:most], pair[1][:most]) for pair in contents if isinstance(pair, tuple)]
        if len(pairs) < len(contents):
            raise TypeError("a cross-encoder takes pairs alone")
        counts = [len(one.ids) for one in self._own_tokenizer().encode_batch_fast(pairs)]
        return [
            PreparedInput(
                pair, min(count, self._limit), min(count, self._limit), count > self._limit, pair
            )
            for pair, count in zip(pairs, counts, strict=True)
        ]

    def encode(self, batch: Sequence[PreparedInput]) -> NDArray[np.float32]:
        """Compute scores, float32 [n, 1], with the model's own activation."""
        features = self._model.preprocess([item.payload for item in batch])
        moved = {
            name: value.to(self._model.device) if hasattr(value, "to") else value
            for name, value in features.items()
        }
        with torch.inference_mode():
            scores = self._model.activation_fn(self._model(moved)["scores"].float())
        return np.asarray(scores.cpu().numpy(), np.float32).reshape(len(batch), 1)

    def tokenize(self, text: str) -> Tokens:
        """Fail: it reads pairs."""
        raise TypeError("a cross-encoder takes pairs alone")

    def _own_tokenizer(self) -> Tokenizer:
        """Return this thread's copy: shared ones fail, "Already borrowed" (transformers#47085)."""
        tokenizer = getattr(self._thread, "tokenizer", None)
        if tokenizer is None:
            tokenizer = self._thread.tokenizer = copy.deepcopy(self._tokenizer)
            tokenizer.no_padding()
            tokenizer.no_truncation()
        return tokenizer
