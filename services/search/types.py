"""What a collection, a document and a query are, and what is refused of them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import FailedPrecondition, InvalidArgument
from services.search.filters import Condition, Place, Value

DIMENSIONS_LIMIT = 32768
FIELDS_LIMIT = 64
ID_BYTES = 512
DOCUMENTS_LIMIT = 5_000
IDS_LIMIT = 10_000
QUERIES_LIMIT = 1_000
HITS_LIMIT = 10_000
EF_LIMIT = 100_000
SHARDS_LIMIT = 1_000
FLOAT16_MOST = 65504
TEXT_LIMIT = 10_000
RRF_CONSTANT_LIMIT = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Collection:
    """A set of documents whose vectors can be compared; 0 leaves a choice to ``with_defaults``.

    Attributes:
        metric: ``cosine``, ``ip`` or ``l2``.
        index: ``flat``, ``hnsw`` or ``svs_vamana``; the last needs the Query Engine, like every
            ``vector_type`` (``float16``, ``bfloat16``, ``int8``) but ``float32``.
        svs: settings of svs_vamana by their names in FT.CREATE.
        fields: type of each declared field: ``number``, ``tag``, ``text`` or ``geo``.
        quantization: ``none``, ``q8`` or ``binary``.
        engine: ``vector_sets`` or ``query_engine``.
        index_text: documents can be found by the words of their texts.
        reduced: dimensions to which vector sets project vectors at random; 0 keeps all.
        shards: in how many vector sets the documents lie; 0 and 1 mean one.
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
    reduced: int = 0
    shards: int = 0

    @property
    def is_sharded(self) -> bool:
        """Say whether its documents lie in shards, which are collections of their own."""
        return self.shards > 1 and "#" not in self.name

    @property
    def lifted(self) -> str:
        """The metric that takes a lift to be a cosine; ``cosine`` if the engine has the metric.

        The Query Engine has all three; but one byte a number is a matter of directions alone.
        """
        native = self.engine == "query_engine" and self.vector_type != "int8"
        return "cosine" if native else self.metric

    def with_defaults(self, engine: str) -> "Collection":
        """Return the collection on an engine, what was left open filled in.

        Lifted for the inner product, vectors lie closer together: it takes more candidates to tell
        them apart. The Query Engine's graph loses long vectors under L2 unless it is dense and well
        built. (Recall@10 of sentence embeddings of lengths .5 to 2: IP on vector sets, 86,480, .982
        with ef_runtime 400, .992 with 1,000, at 1.1 times the time; L2 on the Query Engine, 20,000,
        at 400 .984 with m 32 and ef_construction 200, .990 with 32 and 500, .993 with 48 and 500.)
        """
        lifted_ip = (self.metric, engine) == ("ip", "vector_sets")
        sparse_l2 = (self.metric, engine) == ("l2", "query_engine")
        return replace(
            self,
            engine=engine,
            m=self.m or (48 if sparse_l2 else 16),
            ef_construction=self.ef_construction or (500 if sparse_l2 else 200),
            ef_runtime=self.ef_runtime or (1000 if lifted_ip else 400 if sparse_l2 else 200),
        )

    def reindexed(self, changes: Mapping[str, Any]) -> "Collection":
        """Return the collection with another index; what was left open stays so."""
        unset = {"m": 0, "ef_construction": 0, "ef_runtime": 0}
        default = replace(self, **unset).with_defaults(self.engine)  # type: ignore[arg-type]
        open_ones = [one for one in unset if getattr(self, one) == getattr(default, one)]
        left_open: dict[str, Any] = dict.fromkeys(open_ones, 0)
        return replace(self, **{**left_open, **changes}).with_defaults(self.engine)

    def holds_all_of(self, other: "Collection") -> bool:
        """Say whether documents that were checked for another fit, but for their lengths."""
        return self.dimensions == other.dimensions and self.fields.items() >= other.fields.items()

    def check(self) -> None:
        """Raise InvalidArgument for what can be no collection."""
        check_name(self.name, "collection.name")
        _within(self.dimensions, 1, DIMENSIONS_LIMIT, "collection.dimensions")
        _within(self.m, 4, 512, "collection.hnsw.m")
        _within(self.ef_construction, 1, 10_000, "collection.hnsw.ef_construction")
        _within(self.ef_runtime, 1, EF_LIMIT, "collection.hnsw.ef_runtime")
        _within(len(self.fields), 0, FIELDS_LIMIT, "collection.fields")
        _within(len(self.model_digest), 0, 256, "collection.model_digest")
        if self.index == "flat" and self.quantization != "none":
            raise InvalidArgument(
                "FLAT_IS_EXACT",
                "A flat index is exact, which needs QUANTIZATION_NONE; or take hnsw.",
                field="collection.quantization",
            )
        self._check_engine()
        self._check_reduced()
        self._check_shards()
        for name in self.fields:
            if not _FIELD_NAME.fullmatch(name):
                raise InvalidArgument(
                    "BAD_FIELD_NAME",
                    "A field's name is a letter or _, then letters, digits or _; at most 64.",
                    field="collection.fields",
                    name=name,
                )

    def _check_engine(self) -> None:
        if self.engine == "query_engine" and self.quantization != "none":
            raise FailedPrecondition(
                "NEEDS_VECTOR_SETS",
                "Quantization is for vector sets; the Query Engine has vector_type and SVS-VAMANA.",
                field="collection.quantization",
            )
        plain = self.index != "svs_vamana" and self.vector_type == "float32"
        if self.engine == "vector_sets" and not plain:
            raise FailedPrecondition(
                "NEEDS_QUERY_ENGINE",
                "SVS-VAMANA (Redis 8.2) and vector types other than FLOAT32 (Redis 8.0) need the"
                " Query Engine, FT.CREATE.",
                field="collection.index",
            )
        if self.index == "svs_vamana" and self.vector_type not in ("float32", "float16"):
            raise InvalidArgument(
                "BAD_VECTOR_TYPE",
                "SVS-VAMANA takes FLOAT32 or FLOAT16.",
                field="collection.vector_type",
            )

    def _check_reduced(self) -> None:
        _within(self.reduced, 0, self.dimensions, "collection.reduced_dimensions")
        if self.reduced and (self.index, self.engine) != ("hnsw", "vector_sets"):
            raise FailedPrecondition(
                "NEEDS_VECTOR_SETS",
                "reduced_dimensions is for hnsw on vector sets.",
                field="collection.reduced_dimensions",
            )

    def _check_shards(self) -> None:
        _within(self.shards, 0, SHARDS_LIMIT, "collection.shards")
        if self.shards > 1 and self.engine != "vector_sets":
            raise FailedPrecondition(
                "NEEDS_VECTOR_SETS",
                "shards are for vector sets; the Query Engine spreads its indexes itself.",
                field="collection.shards",
            )

    def check_model(self, digest: str) -> None:
        """Raise FailedPrecondition if vectors of this model do not belong here."""
        if digest and self.model_digest and digest != self.model_digest:
            raise FailedPrecondition(
                "MODEL_MISMATCH",
                "The vectors are of another model than the collection's: use that one.",
                field="model_digest",
                collection=self.name,
                expected=self.model_digest,
                given=digest,
            )


@dataclass(frozen=True)
class Document:
    """A document; ``vector`` is float32 [dimensions], ``ttl`` seconds (0 keeps it)."""

    id: str
    vector: Vector
    fields: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    payload: bytes = b""
    ttl: float = 0.0


@dataclass(frozen=True)
class Query:
    """One question: by ``vector`` or ``document_id``, by ``text``, by both; or for everything.

    Attributes:
        collection: the one that it was checked against.
        fusion: ``rrf`` or ``linear`` if vector and text are both asked by.
        vector_weight: in [0, 1], of a linear fusion; the rest is the words'.
        rrf_constant: what is added to ranks.
        depth: how many hits of each ranking are joined, at least as many as are asked for.
        group_by: field by which hits are put together, ``group_hits`` of each value; ``limit`` and
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

    def check(self, place: str) -> None:
        """Raise InvalidArgument for bounds that make no sense; ``place`` names the query."""
        _within(self.limit, 1, HITS_LIMIT, f"{place}.limit")
        _within(self.offset, 0, HITS_LIMIT, f"{place}.offset")
        _within(self.ef, 0, EF_LIMIT, f"{place}.ef")
        if self.min_similarity is not None and not math.isfinite(self.min_similarity):
            raise InvalidArgument(
                "NOT_FINITE", "min_similarity is no number.", field=f"{place}.min_similarity"
            )
        if self.text or self.fusion:
            self._check_words(place)
        if self.group_by:
            self._check_group(place)

    def _check_group(self, place: str) -> None:
        if self.collection.fields.get(self.group_by) not in ("tag", "number"):
            raise InvalidArgument(
                "BAD_GROUP_FIELD",
                "Hits are grouped by a declared field of type TAG or NUMBER.",
                field=f"{place}.group_by.field",
                name=self.group_by,
            )
        most = HITS_LIMIT // max(1, self.offset + self.limit)
        _within(self.group_hits, 1, max(1, most), f"{place}.group_by.hits")

    def _check_words(self, place: str) -> None:
        if not self.collection.index_text:
            raise FailedPrecondition(
                "TEXT_NOT_INDEXED",
                "The collection was created with index_text false: it cannot be asked by words.",
                field=place,
                collection=self.collection.name,
            )
        if not self.text.strip() or len(self.text) > TEXT_LIMIT:
            raise InvalidArgument(
                "BAD_TEXT",
                f"The text to look for has 1 to {TEXT_LIMIT} characters.",
                field=f"{place}.text",
            )
        if self.min_similarity is not None and not self.fusion:
            raise InvalidArgument(
                "NO_SIMILARITY",
                "Words alone have no similarity: leave min_similarity out, or ask by hybrid.",
                field=f"{place}.min_similarity",
            )
        if not 0 <= self.vector_weight <= 1:
            raise InvalidArgument(
                "OUT_OF_RANGE",
                "vector_weight is 0 to 1.",
                field=f"{place}.hybrid.vector_weight",
            )
        if not 0 < self.rrf_constant <= RRF_CONSTANT_LIMIT:
            raise InvalidArgument(
                "OUT_OF_RANGE",
                f"rrf_constant is more than 0, at most {RRF_CONSTANT_LIMIT}.",
                field=f"{place}.hybrid.rrf_constant",
            )
        _within(self.depth, 1, HITS_LIMIT, f"{place}.hybrid.depth")


@dataclass
class Hit:
    """A document that was found; what was not asked for is empty."""

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
    """The answer to one query; ``took`` is seconds."""

    hits: list[Hit]
    took: float = 0.0
    partial_reason: str = ""
    explanation: list[str] = field(default_factory=list)


def check_name(name: str, place: str) -> None:
    """Raise InvalidArgument if a collection cannot be called so."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            "BAD_COLLECTION_NAME",
            "A collection's name has 1 to 128 letters, digits, '.', '_' or '-'.",
            field=place,
        )


def check_id(key: str, place: str) -> None:
    """Raise InvalidArgument if a document cannot have this id."""
    if not 0 < len(key.encode()) <= ID_BYTES:
        raise InvalidArgument("BAD_ID", f"An id has 1 to {ID_BYTES} bytes.", field=place)


def read_vector(data: bytes, collection: Collection, place: str) -> Vector:
    """Read a little-endian float32 vector of a collection, [dimensions].

    Raises:
        InvalidArgument: its length is wrong, a number is not finite, or it is zero under cosine.
    """
    if len(data) != 4 * collection.dimensions:
        raise InvalidArgument(
            "WRONG_DIMENSIONS",
            f"The vector has {len(data)} bytes; {collection.name} takes"
            f" {collection.dimensions} little-endian float32, {4 * collection.dimensions} bytes.",
            field=place,
            expected_bytes=4 * collection.dimensions,
            given_bytes=len(data),
        )
    vector = np.frombuffer(data, "<f4")
    if not np.isfinite(vector).all():
        raise InvalidArgument("NOT_FINITE", "The vector holds NaN or infinity.", field=place)
    check_vector(vector, collection, place)
    return vector


def check_vector(vector: Vector, collection: Collection, place: str) -> None:
    """Raise InvalidArgument for a vector, float32 [dimensions], that cannot be compared there."""
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if collection.metric == "cosine" and norm == 0:
        raise InvalidArgument(
            "ZERO_VECTOR", "A zero vector has no direction: COSINE cannot compare it.", field=place
        )
    if collection.vector_type == "float16" and np.abs(vector).max() > FLOAT16_MOST:
        raise InvalidArgument(
            "NOT_FINITE", "A number does not fit FLOAT16: it can be up to 65504.", field=place
        )
    if norm > 1e15:  # noqa: PLR2004 - its square must keep within float32, in which Redis compares
        raise InvalidArgument("TOO_LONG_VECTOR", "The vector is longer than 1e15.", field=place)


def check_fields(fields: dict[str, Value], collection: Collection, place: str) -> None:
    """Raise InvalidArgument for a field that is not declared, or a value of another type."""
    for name, value in fields.items():
        kind = collection.fields.get(name)
        if kind is None:
            raise InvalidArgument(
                "UNDECLARED_FIELD",
                f"{collection.name} declares no such field.",
                field=f"{place}.fields",
                name=name,
            )
        if not _fits(value, kind):
            raise InvalidArgument(
                "WRONG_FIELD_TYPE",
                f"The value does not fit the field's type, {kind.upper()}.",
                field=f"{place}.fields",
                name=name,
                type=kind,
            )


def _fits(value: Any, kind: str) -> bool:
    if kind == "number":
        return isinstance(value, float) and math.isfinite(value)
    if kind == "geo":
        return isinstance(value, Place) and value.is_on_earth()
    if kind == "text":
        return isinstance(value, str)
    return isinstance(value, str | tuple)


def _within(value: int, least: int, most: int, place: str) -> None:
    if not least <= value <= most:
        raise InvalidArgument(
            "OUT_OF_RANGE",
            f"{place} is {value}; it can be {least} to {most}.",
            field=place,
            least=least,
            most=most,
        )
