"""What the embedder asks of a model."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class CannotLoad(Exception):
    """A model cannot be loaded; the message says why and what to do."""


@dataclass(frozen=True)
class Trial:
    """What a runtime showed when a model was loaded.

    Attributes:
        mean_cosine: between its vectors and those of float32 torch.
        least_cosine: the same, of the worst text.
        independence: least cosine between a text's vectors alone and in a batch.
        found: questions of the sample whose answer was the nearest passage.
        texts_per_second: on the sample, in process.
    """

    runtime: str
    dtype: str
    mean_cosine: float
    least_cosine: float
    independence: float
    found: int
    texts_per_second: float


@dataclass(frozen=True)
class Card:
    """What a model is.

    Attributes:
        modalities: ``text``, ``image``, ``audio``; ``pair`` is a question with a text.
        max_tokens: tokens it reads of a text; 0 if it takes none.
        digest: sha256 (hex) over weights and configuration.
        lanes: batches that it computes at once.
        batch_tokens: tokens of a batch, padding counted in.
        trials: the runtimes that were tried for it.
    """

    name: str
    modalities: frozenset[str]
    dimensions: int
    max_tokens: int
    runtime: str
    device: str
    dtype: str
    digest: str
    lanes: int = 1
    batch_tokens: int = 8192
    trials: tuple[Trial, ...] = ()


class Prepared(NamedTuple):
    """An input as a model computes it; made for every input, so it is a tuple, which is cheap.

    Attributes:
        payload: what the model made of it: token ids, pixels, …
        cost: tokens it takes up in a batch.
        tokens: tokens it has.
        truncated: whether some were cut off.
        key: the same for inputs whose vectors are the same.
    """

    payload: Any
    cost: int
    tokens: int
    truncated: bool
    key: Hashable


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text: code points where each begins and ends, and their number in all."""

    starts: list[int]
    ends: list[int]
    count: int


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: samples float32 [n] from -1 to 1, so many a second."""

    samples: NDArray[np.float32]
    rate: int


Pair = tuple[str, str]
Content = str | Image.Image | Sound | Pair


class Model(Protocol):
    """A model; any thread may prepare and tokenize, and ``card.lanes`` threads encode at once."""

    @property
    def card(self) -> Card:
        """What it is."""
        ...

    def prepare(self, contents: Sequence[Content], task: str) -> list[Prepared]:
        """Turn inputs into what is computed; ``task`` is ``query``, ``document`` or empty."""
        ...

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Compute vectors, float32 [n, dimensions]; a row depends on its own input alone."""
        ...

    def tokenize(self, text: str) -> Tokens:
        """Return where a text's tokens lie."""
        ...
