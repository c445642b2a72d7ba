"""The protocol of a model, and the types that pass between a model and the embedder."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedder.models.reading import Reading

Vectors = NDArray[np.float32]


class ModelLoadError(Exception):
    """A model cannot be loaded. The message says why, and what the operator can do."""


@dataclass(frozen=True)
class RuntimeTrial:
    """A runtime's measurements on the sample of texts, taken when a model was loaded.

    Attributes:
        runtime: for example ``openvino``.
        dtype: the data type that it computes in.
        mean_cosine: mean cosine between its vectors and those of float32 torch.
        min_cosine: the smallest such cosine.
        batch_invariance: the smallest cosine between a text's vectors, computed singly and in a
            batch.
        top1_hits: queries of the sample whose nearest passage is their own.
        texts_per_second: throughput on the sample, in process.
    """

    runtime: str
    dtype: str
    mean_cosine: float
    min_cosine: float
    batch_invariance: float
    top1_hits: int
    texts_per_second: float


@dataclass(frozen=True)
class ModelInfo:
    """The description of a loaded model.

    Attributes:
        modalities: ``text``, ``image``, ``audio``; ``pair`` is a query with a text.
        dimensions: length of its vectors.
        max_tokens: how many tokens of a text it reads; 0 if it takes no text.
        digest: sha256 (hex) of the weights and the configuration.
        workers: threads that may call ``encode`` at the same time.
        batch_tokens: the batch size that suits it, in tokens with padding.
        trials: the trials of the runtimes that could compute it.
        query_prompt: the text that precedes an input with the task ``query``.
        document_prompt: the text that precedes an input with the task ``document``.
    """

    name: str
    modalities: frozenset[str]
    dimensions: int
    max_tokens: int
    runtime: str
    device: str
    dtype: str
    digest: str
    workers: int = 1
    batch_tokens: int = 8192
    trials: tuple[RuntimeTrial, ...] = ()
    query_prompt: str = ""
    document_prompt: str = ""


class PreparedInput(NamedTuple):
    """An input in the form that a model computes. It is a tuple, because there is one per input.

    Attributes:
        payload: what the model computes: token ids, pixels, features.
        cost: tokens that it takes up in a batch.
        tokens: how many tokens it has.
        truncated: whether a part of the input was cut off.
        key: equal keys mean equal vectors.
        reading: how a text was tokenised; None for other inputs.
    """

    payload: Any
    cost: int
    tokens: int
    truncated: bool
    key: Hashable
    reading: Reading | None = None


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text.

    Attributes:
        starts: the code point at which each token starts; special tokens are left out.
        ends: the code point after the last of each token.
        count: the number of tokens, including special tokens.
    """

    starts: list[int]
    ends: list[int]
    count: int


@dataclass(frozen=True, eq=False)
class AudioClip:
    """Decoded audio: mono samples float32 [n] from -1 to 1, and their rate in hertz."""

    samples: NDArray[np.float32]
    sample_rate: int


QueryTextPair = tuple[str, str]
Content = str | Image.Image | AudioClip | QueryTextPair


class Model(Protocol):
    """A loaded model.

    Any thread may call ``prepare`` and ``tokenize``; up to ``info.workers`` threads may call
    ``encode`` at the same time.
    """

    @property
    def info(self) -> ModelInfo:
        """Describe the model."""
        ...

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Turn decoded inputs into the input of ``encode``.

        Args:
            contents: inputs of modalities that the model takes.
            task: ``query``, ``document``, or empty.

        Raises:
            TypeError: the model does not take the modality of an input.
        """
        ...

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        """Compute vectors, float32 [n, dimensions]; a row depends only on its own input."""
        ...

    def tokenize(self, text: str) -> Tokens:
        """Return the tokens of a text of any length.

        Raises:
            TypeError: the model takes no text.
        """
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens.

        Raises:
            KeyError: the vocabulary has no such token.
            TypeError: the model takes no text.
        """
        ...


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """What one layer of a network computes from an image.

    Attributes:
        kind: for example ``convolution``, ``relu``, ``pooling-max``, ``flatten`` or ``dense``.
        values: float32 [channels, side, side], or [length] for a vector.
        weights: the filters of a convolution that reads colours, float32 [channels, 3, kernel,
            kernel]; None for other layers.
    """

    kind: str
    values: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None


@runtime_checkable
class LayeredModel(Protocol):
    """A model of images that can return what its layers compute. Any thread may call it."""

    def feature_maps(self, image: Image.Image) -> tuple[NDArray[np.uint8], list[LayerOutput]]:
        """Return the input of the network, uint8 [side, side, 3], and the output of each layer."""
        ...
