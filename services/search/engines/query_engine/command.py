"""Builds the FT.SEARCH command of one query, and reads its reply."""

import math
from collections.abc import Sequence
from typing import Any

from services.search.engines.keys import Keys
from services.search.engines.query_engine.filter import ALL, NONE, compile_filter, is_loose
from services.search.engines.query_engine.vectors import encode, vector_field
from services.search.engines.query_plan import (
    FILTERING_EXTRA,
    QUANTIZED_OVERSAMPLING,
    RESCORING_EXTRA,
    QueryPlan,
)
from services.search.engines.record import Record
from services.search.engines.redis_errors import REDIS_TIMEOUT
from services.search.types import Query, Vector

# The most hits that FT.SEARCH returns by default (search-max-search-results).
MAX_RESULTS = 1_000_000
_RETRY_FACTOR = 8
_DISTANCE = "distance"


class SearchCommand:
    """The command of one query; ``plan`` receives what the reply contains."""

    def __init__(self, query: Query, record: Record, keys: Keys) -> None:
        expression = compile_filter(
            query.condition, record.collection.fields, expiring=record.expiring
        )
        self.plan = QueryPlan(query, record, record.transform, expression, None)
        self._collection = record.collection
        self._index = record.index
        self._keys = keys
        self._is_loose = is_loose(query.condition)
        self._count = self.plan.page_end + (FILTERING_EXTRA if self._is_loose else 0)
        if query.text:
            self.plan.set_stems()
        if query.vector is not None:
            self.set_vector(query.vector)

    def set_vector(self, vector: Vector) -> None:
        """Search by this vector."""
        plan, collection = self.plan, self._collection
        plan.set_vector(vector)
        is_svs = collection.index == "svs_vamana"
        plan.rescore = (
            collection.transformed_metric != "cosine"
            or collection.vector_type != "float32"
            or is_svs
        )
        if plan.rescore:
            is_quantized = collection.vector_type == "int8" or is_svs
            self._count *= QUANTIZED_OVERSAMPLING if is_quantized else 1
            self._count += RESCORING_EXTRA
        self._count = min(self._count, MAX_RESULTS)

    def widen(self) -> None:
        """Request more candidates when the command is sent again."""
        self._count = min(self._count * _RETRY_FACTOR, MAX_RESULTS)

    def may_lack_hits(self) -> bool:
        """Return whether the filter left too few candidates, and the server may have more."""
        plan = self.plan
        is_full = plan.fetched == self._count
        return self._is_loose and is_full and len(plan.candidates) < plan.page_end

    def arguments(self) -> list[Any]:
        """Return the command and its arguments."""
        plan, parameters = self.plan, []
        if plan.vector is not None:
            parameters = ["PARAMS", 2, "b", self._encoded_vector(plan.vector)]
        command: list[Any] = ["FT.SEARCH", self._keys.search_index(self._index)]
        command.append(self._expression())
        command += ["WITHSCORES", "SCORER", "BM25STD"] if plan.query.text else []
        command += ["SORTBY", _DISTANCE] if plan.vector is not None else []
        names = self._returned_fields()
        command += ["RETURN", len(names), *names] if names else ["NOCONTENT"]
        command += ["LIMIT", 0, self._count, "TIMEOUT", int(REDIS_TIMEOUT * 1000), *parameters]
        command += ["DIALECT", 2]
        plan.explain(command)
        return command

    def read(self, reply: Sequence[Any]) -> None:
        """Read ids, scores and hash fields; drop candidates that do not match the filter."""
        plan, names = self.plan, self._returned_fields()
        has_scores = bool(plan.query.text)
        row_length = 1 + has_scores + bool(names)
        rows = [reply[at : at + row_length] for at in range(1, len(reply), row_length)]
        plan.fetched = len(rows)
        plan.candidates, plan.documents = [], []
        for row in rows:
            document = read_pairs(row[-1] or ()) if names else {}
            if names and not document:
                continue  # the document was deleted or has expired
            score = float(row[1]) if has_scores else float(document.get(_DISTANCE, 0.0))
            plan.candidates.append((self._keys.document_id(row[0]), score))
            plan.documents.append({name: document.get(name, b"") for name in names})
        if self._is_loose:
            plan.filter_candidates()
        self._score()
        if not plan.query.text and not plan.parts:
            plan.documents = []

    def _returned_fields(self) -> list[str]:
        names = self.plan.parts
        if self._is_loose and "f" not in names:
            names.append("f")
        return names + ([_DISTANCE] if self.plan.vector is not None else [])

    def _expression(self) -> str:
        """Return the query string: filter, text query or nearest neighbours."""
        plan, collection = self.plan, self._collection
        condition = plan.filter_expression
        if plan.query.text:
            text = f"(@s:({'|'.join(plan.stems)}))" if plan.stems else NONE
            return f"{text} {condition}" if condition else text
        if plan.vector is None:
            return condition or "*"
        field = vector_field(collection, self._index)
        option = ""
        if plan.query.exact and collection.index != "flat":
            condition, option = condition or f"({ALL})", " HYBRID_POLICY ADHOC_BF"
        elif collection.index == "hnsw":
            option = f" EF_RUNTIME {max(plan.query.ef or collection.ef_runtime, self._count)}"
        elif collection.index == "svs_vamana":
            window = plan.query.ef or int(collection.svs.get("SEARCH_WINDOW_SIZE", 0))
            option = f" SEARCH_WINDOW_SIZE {max(window, self._count)}"
        return f"{condition or '*'}=>[KNN {self._count} @{field} $b{option} AS {_DISTANCE}]"

    def _encoded_vector(self, vector: Vector) -> bytes:
        rows = vector[None]
        if self._collection.transformed_metric != "cosine":
            rows = self.plan.transform.transform_query(vector)[None]
        return encode(rows, self._collection)[0]

    def _score(self) -> None:
        plan, metric = self.plan, self._collection.metric
        if plan.vector is None or plan.rescore:
            plan.score_candidates()
            return
        plan.distances = [_distance(metric, score) for _, score in plan.candidates]
        plan.similarities = [_similarity(metric, distance) for distance in plan.distances]


def read_pairs(values: Sequence[Any]) -> dict[str, Any]:
    """Return alternating names and values as a dictionary."""
    return {name.decode(): value for name, value in zip(values[::2], values[1::2], strict=True)}


def _distance(metric: str, score: float) -> float:
    """Return our distance for the server's: 1 − cos, 1 − u·v or the squared Euclidean distance."""
    if metric == "l2":
        return math.sqrt(max(score, 0.0))
    return score - 1 if metric == "ip" else score


def _similarity(metric: str, distance: float) -> float:
    if metric == "l2":
        return 1 / (1 + distance)
    return -distance if metric == "ip" else 1 - distance
