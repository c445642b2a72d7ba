"""The plain data that the gateway exchanges with the embedder and with search."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The value of a field: a number, a tag, several tags, or a point as {"lat": …, "lon": …}.
Value = float | str | list[str] | dict[str, float]

METRICS = ("cosine", "ip", "l2")


@dataclass(frozen=True)
class TextReading:
    """How much of a text a model reads.

    Attributes:
        readable: whether the model reads enough of the text to compare it with others.
        truncated: whether the model cuts the text.
        unread: start and end of each part that the model does not read, in code points. The part
            that the model cuts is the last.
    """

    readable: bool = True
    truncated: bool = False
    unread: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Vectors:
    """The embeddings of a batch of inputs.

    Attributes:
        rows: float32 [n, dimensions], one row for each input.
        model: name of the model that computed them.
        digest: identifies that model. Vectors of two digests are never compared.
        readings: how much of each text the model reads; empty if the embedder did not make the
            vectors.
    """

    rows: NDArray[np.float32]
    model: str
    digest: str
    readings: tuple[TextReading, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the model reads enough of the first text, as far as is known."""
        return not self.readings or self.readings[0].readable

    def only(self, row: int) -> "Vectors":
        """Return the embedding of one input."""
        one = slice(row, row + 1)
        return replace(self, rows=self.rows[one], readings=self.readings[one])


@dataclass(frozen=True)
class TextModel:
    """The model that embeds texts: what it reads and what it computes.

    ``document_prompt`` precedes each document that it embeds.
    """

    digest: str
    dimensions: int
    max_tokens: int
    document_prompt: str = ""


@dataclass(frozen=True)
class NetworkLayer:
    """What one layer of the image network computes from an image.

    Attributes:
        kind: for example ``convolution``, ``relu``, ``pooling-max`` or ``dense``.
        shape: the shape of the whole output.
        channels: how many channels ``values`` has; 0 for a vector.
        side: width and height of the maps in ``values``.
        values: int8 codes, [channels, side, side] or [length]; each number is its code times
            ``scale``.
        scale: the scale of the codes.
        weights: float32 little-endian [channels, 3, kernel, kernel], or empty.
        kernel: width and height of the filters.
    """

    kind: str
    shape: tuple[int, ...]
    channels: int
    side: int
    values: bytes
    scale: float
    weights: bytes
    kernel: int


@dataclass(frozen=True)
class NetworkView:
    """An image as the image network sees it, 8-bit RGB [side, side, 3], and its layers' output."""

    side: int
    pixels: bytes
    layers: list[NetworkLayer]


@dataclass(frozen=True)
class CollectionSpec:
    """A search collection to create.

    Attributes:
        name: the collection's name.
        dimensions: length of its vectors.
        model_digest: the model that computes its vectors; search rejects vectors of other models.
        fields: the type (number, tag or geo) of each declared field, by its name.
        metric: one of ``METRICS``.
        index_text: whether the documents' texts are indexed for text and hybrid queries.
    """

    name: str
    dimensions: int
    model_digest: str
    fields: dict[str, str] = field(default_factory=dict)
    metric: str = "cosine"
    index_text: bool = False


@dataclass(frozen=True)
class Document:
    """A document of a search collection; ``vector`` is float32 [dimensions], ``ttl`` in seconds."""

    id: str
    vector: NDArray[np.float32]
    fields: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    payload: bytes = b""
    ttl: float = 0.0


@dataclass(frozen=True)
class Query:
    """A query to one collection.

    Attributes:
        collection: the collection's name.
        vector: float32 [dimensions].
        limit: maximum number of hits.
        tags: the value that each tag field must have, or several of which it must have one, in
            addition to ``filter``.
        filter: a Filter message as the caller sent it, or None.
        with_text: whether hits carry their text and fields.
        text: makes the query a hybrid of vector and text; empty for only the vector.
        depth: how many hits of each kind a hybrid query fuses.
        with_vector: whether hits carry their vectors.
        ef: how many candidates HNSW examines; 0 means the collection's own setting.
    """

    collection: str
    vector: NDArray[np.float32]
    limit: int
    tags: dict[str, str | list[str]] = field(default_factory=dict)
    filter: Any = None
    with_text: bool = False
    text: str = ""
    depth: int = 100
    with_vector: bool = False
    ef: int = 0


@dataclass(frozen=True)
class Hit:
    """A document that a query matched.

    Attributes:
        score: ranks the hits: the fused score of a hybrid query, or the similarity of others.
        vector: float32 [dimensions] if the query requested it.
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
