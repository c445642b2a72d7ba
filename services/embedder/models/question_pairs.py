"""The project's own cross-encoder, which scores whether two questions ask the same.

It is the default text model (all-MiniLM-L6-v2) with low-rank updates of its matrices (Hu et al.,
"LoRA", 2021) and a small head. Only the updates and the head are shipped; loading adds them to the
package's weights. The model reads two questions in one order, so that the score is symmetric.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import nn

from services.embedder.models import runtime_selection
from services.embedder.models.model import Content, ModelInfo, PreparedInput, Tokens, Vectors
from services.embedder.models.pretrained import file_sha256
from services.embedder.models.runtime_selection import RuntimeOptions
from services.embedder.models.runtime_trials import Sample
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    load_sentence_transformer,
)
from services.embedder.models.tokenizer import (
    MAX_CHARACTERS_PER_TOKEN,
    PerThreadTokenizer,
    fast_tokenizer,
)

QUESTION_PAIR_MODEL = "memetwin-question-pairs"
WEIGHTS = Path(__file__).parent / "shipped" / QUESTION_PAIR_MODEL / "adapter.safetensors"
# The matrices of a layer that have updates, by the name of their update.
MATRICES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
MAX_TOKENS = 256  # of a pair
_SEPARATOR = 102  # the token [SEP]
Arrays = dict[str, NDArray[Any]]


class PairEncoder(nn.Module):
    """Turns pairs of questions into the last hidden layer of the head, [n, dimensions].

    Args:
        bert: the transformer, with the updates.
        hidden: the head's first layer.
    """

    def __init__(self, bert: Any, hidden: nn.Linear) -> None:
        super().__init__()
        self.bert, self.hidden = bert, hidden

    @property
    def device(self) -> Any:
        """The device of torch that has the weights."""
        return self.hidden.weight.device

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Encode ``input_ids`` [n, longest], of which ``attention_mask`` marks the used ones.

        Returns:
            ``sentence_embedding``, the name that runtimes read.
        """
        ids, mask = features["input_ids"], features["attention_mask"]
        separators = (ids == _SEPARATOR).to(ids.dtype)
        kinds = ((separators.cumsum(1) - separators) > 0).to(ids.dtype)
        states = self.bert(
            input_ids=ids, attention_mask=mask, token_type_ids=kinds
        ).last_hidden_state
        return {"sentence_embedding": torch.tanh(self.hidden(pool(states, mask, kinds)))}


def pool(states: torch.Tensor, mask: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """Return the input of the head, [n, 4 * dimensions].

    It has the state of the first token, and the difference, the product and the sum of the two
    questions' mean states.

    Args:
        states: the states of all tokens, [n, longest, dimensions].
        mask: 1 for used tokens, [n, longest].
        kinds: 0 for tokens of the first question and 1 for those of the second, [n, longest].
    """
    means = []
    for part in (mask * (1 - kinds), mask * kinds):
        weights = part.to(states.dtype)[..., None]
        means.append((states * weights).sum(1) / weights.sum(1).clamp(min=1))
    one, other = means
    return torch.cat([states[:, 0], (one - other).abs(), one * other, one + other], 1)


class QuestionPairModel:
    """Scores pairs of questions. Its vectors [n, 1] are log-odds that both ask the same."""

    def __init__(self, encoder: PairEncoder, model: SentenceTransformer, arrays: Arrays,
                 digest: str, options: RuntimeOptions) -> None:  # fmt: skip
        self._out = (
            arrays["out.weight"].astype(np.float32)[0],
            arrays["out.bias"].astype(np.float32),
        )
        self._tokenizer = PerThreadTokenizer(fast_tokenizer(model), MAX_TOKENS)
        self._runtime, trial = self._select_runtime(encoder, model, digest, options)
        self.info = ModelInfo(
            name=QUESTION_PAIR_MODEL,
            modalities=frozenset({"pair"}),
            dimensions=1,
            max_tokens=MAX_TOKENS,
            runtime=self._runtime.name,
            device=str(encoder.device),
            dtype=self._runtime.dtype,
            digest=digest,
            workers=self._runtime.workers,
            batch_tokens=self._runtime.batch_tokens,
            trials=tuple(trial),
        )

    @classmethod
    def load(
        cls, options: RuntimeOptions | None = None, weights: Path = WEIGHTS
    ) -> "QuestionPairModel":
        """Add the shipped updates to the default text model.

        Raises:
            ModelLoadError: the default text model's package is not installed.
        """
        model, base = load_sentence_transformer(DEFAULT_TEXT_MODEL)
        arrays = safetensors.numpy.load_file(weights)
        digest = hashlib.sha256(f"{base} {file_sha256(weights)}".encode()).hexdigest()
        encoder = merged(model[0].auto_model, arrays)
        return cls(encoder, model, arrays, digest, options or RuntimeOptions())

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Tokenise pairs, the shorter question first. ``task`` has no effect."""
        limit = MAX_TOKENS * MAX_CHARACTERS_PER_TOKEN
        pairs = [ordered(pair) for pair in contents if isinstance(pair, tuple)]
        if len(pairs) < len(contents):
            raise TypeError("this model takes only pairs of texts")
        cut = [(one[:limit], other[:limit]) for one, other in pairs]
        encodings = self._tokenizer.get().encode_batch(cut)
        return [
            _prepared(encoding, truncated=bool(encoding.overflowing) or short != pair)
            for encoding, short, pair in zip(encodings, cut, pairs, strict=True)
        ]

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        """Compute the log-odds, float32 [n, 1]."""
        weight, bias = self._out
        hidden = self._runtime.compute([item.payload for item in batch])
        return np.asarray(hidden @ weight + bias, np.float32)[:, None]

    def tokenize(self, text: str) -> Tokens:
        """Raise TypeError, because the model takes only pairs."""
        raise TypeError("this model takes only pairs of texts")

    def detokenize(self, ids: Sequence[int]) -> str:
        """Raise TypeError, because the model takes only pairs."""
        raise TypeError("this model takes only pairs of texts")

    def _select_runtime(
        self, encoder: PairEncoder, model: SentenceTransformer, digest: str, options: RuntimeOptions
    ) -> tuple[Any, list[Any]]:
        pad_token = int(model.tokenizer.pad_token_id or 0)
        factories = runtime_selection.factories(encoder, pad_token, digest, options)
        tokenizer = self._tokenizer.get()
        selected = runtime_selection.select(
            factories,
            Sample.bundled_pairs(lambda one, other: tokenizer.encode(one, other).ids),
            exact=options.mode == "exact",
            record=options.cache_folder.expanduser() / digest[:32] / "trials.json",
        )
        return selected.runtime, selected.trials


def ordered(pair: tuple[str, str]) -> tuple[str, str]:
    """Return a pair of texts in the order in which the model reads them."""
    one, other = sorted(pair, key=lambda text: (len(text), text))
    return one, other


def merged(bert: Any, arrays: Arrays) -> PairEncoder:
    """Add updates to a transformer in place, and return it with the first layer of the head."""
    with torch.no_grad():
        for number, layer in enumerate(bert.encoder.layer):
            for name, path in MATRICES.items():
                down = torch.from_numpy(arrays[f"{number}.{name}.down"].astype(np.float32))
                up = torch.from_numpy(arrays[f"{number}.{name}.up"].astype(np.float32))
                weight = layer.get_submodule(path).weight
                weight += (up @ down).to(weight.device)
    hidden = nn.Linear(*reversed(arrays["hidden.weight"].shape))
    hidden.load_state_dict(
        {name: torch.from_numpy(arrays[f"hidden.{name}"].astype(np.float32))
         for name in ("weight", "bias")}
    )  # fmt: skip
    return PairEncoder(bert, hidden.to(next(bert.parameters()).device)).eval()


def _prepared(encoding: Any, *, truncated: bool) -> PreparedInput:
    ids = encoding.ids
    return PreparedInput(ids, len(ids), len(ids), truncated, tuple(ids))
