"""The other services, as the gateway's core sees them: arrays in and out, failures as ours."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a field's value may be: a number, a tag, tags, or a place as {"lat": …, "lon": …}.
Value = float | str | list[str] | dict[str, float]


METRICS = ("cosine", "ip", "l2")


@dataclass(frozen=True)
class Vectors:
    """What the embedder made of a batch.

    Attributes:
        rows: float32 [n, dimensions].
        model: name of the model that made them.
        digest: identifies that model; vectors of two digests never mix.
    """

    rows: NDArray[np.float32]
    model: str
    digest: str


@dataclass(frozen=True)
class TextModel:
    """A model for texts; ``none`` is a batch of no vectors of its kind."""

    max_tokens: int
    none: Vectors


@dataclass(frozen=True)
class Document:
    """A document of a search collection; ``vector`` is float32 [dimensions]."""

    id: str
    vector: NDArray[np.float32]
    fields: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    payload: bytes = b""
    ttl: float = 0.0


@dataclass(frozen=True)
class Query:
    """A question to one collection; ``vector`` is float32 [dimensions].

    ``filter`` is a Filter message as a caller sent it; ``tags`` must hold besides. With a ``text``
    it is asked by words too, and ``depth`` hits of each are joined. ``effort`` is how many
    candidates are looked at, 0 for as many as the collection says.
    """

    collection: str
    vector: NDArray[np.float32]
    limit: int
    tags: dict[str, str] = field(default_factory=dict)
    filter: Any = None
    with_text: bool = False
    text: str = ""
    depth: int = 100
    with_vector: bool = False
    effort: int = 0


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    ``score`` ranks hits that were asked for by words too, else it is the similarity; ``vector`` is
    float32 [dimensions] if it was asked for.
    """

    id: str
    similarity: float
    distance: float
    fields: dict[str, Value]
    text: str
    payload: bytes
    score: float = 0.0
    text_score: float = 0.0
    vector: NDArray[np.float32] | None = None


def field_types(fields: dict[str, Value]) -> dict[str, str]:
    """Return the type that search declares for each value: number, tag or geo."""
    return {name: _field_type(value) for name, value in fields.items()}


def _field_type(value: Value) -> str:
    if isinstance(value, str | list):
        return "tag"
    return "geo" if isinstance(value, dict) else "number"
