"""Collections, documents, queries and results as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.search.filters import Condition, Value

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Collection:
    """A set of documents with comparable vectors; ``index_defaults`` replaces unset values.

    Attributes:
        metric: ``cosine``, ``ip`` or ``l2``.
        index: ``flat``, ``hnsw`` or ``svs_vamana``. Only the Query Engine has ``svs_vamana``.
        quantization: ``none``, ``q8`` or ``binary``.
        fields: type of each declared field: ``number``, ``tag``, ``text`` or ``geo``.
        engine: ``vector_sets`` or ``query_engine``.
        index_text: full-text queries can find the documents.
        vector_type: ``float32``, ``float16``, ``bfloat16`` or ``int8``. Only the Query Engine
            has types other than ``float32``.
        svs: options of SVS-VAMANA by their names in FT.CREATE.
        reduced_dimensions: dimensions that vector sets project vectors to at random; 0 for all.
        shards: number of vector sets that share the documents; 0 and 1 mean one.
    """

    name: str
    dimensions: int
    metric: str = "cosine"
    index: str = "hnsw"
    m: int = 0
    ef_construction: int = 0
    ef_runtime: int = 0
    quantization: str = "none"
    fields: dict[str, str] = field(default_factory=dict)
    model_digest: str = ""
    engine: str = "vector_sets"
    index_text: bool = True
    vector_type: str = "float32"
    svs: dict[str, str | int] = field(default_factory=dict)
    reduced_dimensions: int = 0
    shards: int = 0

    @property
    def is_sharded(self) -> bool:
        """Return whether the documents are distributed over shards."""
        return self.shards > 1 and "#" not in self.name

    @property
    def transformed_metric(self) -> str:
        """The metric that vectors are transformed for; ``cosine`` if they are stored as they are.

        The Query Engine supports all metrics itself, except for int8, which keeps directions only.
        """
        is_native = self.engine == "query_engine" and self.vector_type != "int8"
        return "cosine" if is_native else self.metric

    def accepts_documents_of(self, other: "Collection") -> bool:
        """Return whether documents that were checked for another collection also fit this one.

        Their vectors must be checked again, since another metric may refuse them.
        """
        return self.dimensions == other.dimensions and self.fields.items() >= other.fields.items()


@dataclass(frozen=True)
class CollectionInfo:
    """A collection with its numbers.

    Attributes:
        memory: bytes that the index and the documents take.
        max_norm: largest vector norm that the index can store; 0 for any.
        ready: the index contains every document.
    """

    collection: Collection
    count: int
    memory: int
    max_norm: float
    warnings: Sequence[str]
    ready: bool
    aliases: Sequence[str]


@dataclass(frozen=True)
class Document:
    """A document; ``vector`` is float32 [dimensions], ``ttl`` is seconds (0: never expires)."""

    id: str
    vector: Vector
    fields: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    payload: bytes = b""
    ttl: float = 0.0


@dataclass(frozen=True)
class Query:
    """A query by ``vector`` or ``document_id``, by ``text``, by vector and text, or for all.

    Attributes:
        collection: the collection that the query was checked against.
        vector: float32 [dimensions].
        fusion: ``rrf`` or ``linear`` if the query has both a vector and a text.
        vector_weight: weight of the vector's scores in a linear fusion, 0 to 1; the text has the
            rest.
        rrf_constant: constant that reciprocal rank fusion adds to ranks.
        depth: number of hits of each ranking that are fused; at least one page.
        group_by: field by whose value hits are grouped, ``group_hits`` of each value; ``limit`` and
            ``offset`` then count groups.
    """

    collection: Collection
    vector: Vector | None = None
    document_id: str = ""
    text: str = ""
    fusion: str = ""
    vector_weight: float = 0.6
    rrf_constant: float = 60.0
    depth: int = 100
    condition: Condition | None = None
    limit: int = 10
    offset: int = 0
    min_similarity: float | None = None
    exact: bool = False
    ef: int = 0
    return_fields: frozenset[str] | None = None
    return_vector: bool = False
    return_text: bool = False
    explain: bool = False
    group_by: str = ""
    group_hits: int = 1

    @property
    def page_end(self) -> int:
        """The number of hits up to the end of the page."""
        return self.offset + self.limit


@dataclass
class Hit:
    """A document that a query found; parts that were not requested are empty."""

    id: str
    similarity: float
    distance: float
    text_score: float = 0.0
    score: float = 0.0
    fields: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    payload: bytes = b""
    vector: bytes = b""
    group: Value | None = None


@dataclass
class Result:
    """The result of one query; ``took`` is seconds, an empty ``partial_reason`` means complete."""

    hits: list[Hit]
    took: float = 0.0
    partial_reason: str = ""
    explanation: list[str] = field(default_factory=list)


def selected_fields(fields: dict[str, Value], names: frozenset[str] | None) -> dict[str, Value]:
    """Return the fields of these names; all fields if there are no names."""
    if names is None:
        return fields
    return {name: value for name, value in fields.items() if name in names}
