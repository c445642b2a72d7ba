"""Cross-encoders of sentence-transformers, which score a query and a text together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from transformers import PretrainedConfig

from services.embedder.models.model import (
    Content,
    ModelInfo,
    ModelLoadError,
    PreparedInput,
    Tokens,
    Vectors,
)
from services.embedder.models.pretrained import load_errors, model_digest
from services.embedder.models.runtimes import best_device
from services.embedder.models.tokenizer import (
    MAX_CHARACTERS_PER_TOKEN,
    PerThreadTokenizer,
    fast_tokenizer,
    token_limit,
)


class CrossEncoderModel:
    """A cross-encoder with one label. Its vectors [n, 1] are scores; higher is more relevant."""

    def __init__(self, name: str, model: CrossEncoder, digest: str) -> None:
        if model.num_labels != 1:
            raise ModelLoadError(
                f"{name} cannot rerank, because it has {model.num_labels} labels instead of one"
            )
        self._model: Any = model.eval()
        self._max_tokens = token_limit(model)
        self._tokenizer = PerThreadTokenizer(fast_tokenizer(model))
        self.info = ModelInfo(
            name=name,
            modalities=frozenset({"pair"}),
            dimensions=1,
            max_tokens=self._max_tokens,
            runtime="torch",
            device=str(model.device),
            dtype="float32",
            digest=digest,
        )

    @classmethod
    def load(cls, name: str, *, trusted: bool = False) -> "CrossEncoderModel":
        """Load a model from a folder or from the Hugging Face Hub.

        Args:
            name: the name of the folder, or on the Hub.
            trusted: run the code that the model contains.

        Raises:
            ModelLoadError: the model is missing, or is not a cross-encoder with one label.
        """
        with load_errors(name):
            model = CrossEncoder(
                name,
                device=best_device(),
                trust_remote_code=trusted,
                model_kwargs={"dtype": torch.float32},
            )
        return cls(name, model, model_digest(name, model))

    @staticmethod
    def matches(name: str) -> bool:
        """Return whether a name is that of a cross-encoder, in a folder or on the Hub."""
        try:
            config = PretrainedConfig.get_config_dict(name)[0]
        except OSError:
            return False
        return any("SequenceClassification" in one for one in config.get("architectures") or ())

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Count the tokens of pairs; ``encode`` tokenises them again. ``task`` has no effect."""
        limit = self._max_tokens * MAX_CHARACTERS_PER_TOKEN
        pairs = [(pair[0][:limit], pair[1][:limit]) for pair in contents if isinstance(pair, tuple)]
        if len(pairs) < len(contents):
            raise TypeError("a cross-encoder takes only pairs of texts")
        encodings = self._tokenizer.get().encode_batch_fast(pairs)
        return [
            self._prepared(pair, len(encoding.ids))
            for pair, encoding in zip(pairs, encodings, strict=True)
        ]

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        """Compute scores, float32 [n, 1], with the model's own activation function."""
        features = self._model.preprocess([item.payload for item in batch])
        inputs = {
            name: value.to(self._model.device) if hasattr(value, "to") else value
            for name, value in features.items()
        }
        with torch.inference_mode():
            scores = self._model.activation_fn(self._model(inputs)["scores"].float())
        return np.asarray(scores.cpu().numpy(), np.float32).reshape(len(batch), 1)

    def tokenize(self, text: str) -> Tokens:
        """Raise TypeError, because the model takes only pairs."""
        raise TypeError("a cross-encoder takes only pairs of texts")

    def detokenize(self, ids: Sequence[int]) -> str:
        """Raise TypeError, because the model takes only pairs."""
        raise TypeError("a cross-encoder takes only pairs of texts")

    def _prepared(self, pair: tuple[str, str], count: int) -> PreparedInput:
        tokens = min(count, self._max_tokens)
        return PreparedInput(pair, tokens, tokens, count > self._max_tokens, pair)
