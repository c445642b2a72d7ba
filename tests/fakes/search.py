"""Documents, and a search over a list in memory, for tests of the search service."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from services.search.filters import Value, holds
from services.search.index_defaults import with_index_defaults
from services.search.metric_transforms import exact_scores
from services.search.types import Collection, Document, Hit, Query, Result, Vector


def vector(*numbers: float) -> Vector:
    return np.array(numbers, "<f4")


def document(key: str, *numbers: float, **options: Any) -> Document:
    return Document(key, vector(*numbers), **options)


class ListSearch:
    """Answers queries by vector or text from a list of documents, and records the queries.

    A text query finds the documents that contain the text, and scores them by its occurrences.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = documents
        self.queries: list[Query] = []

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        self.queries += queries
        return [self._result(query) for query in queries]

    def _result(self, query: Query) -> Result:
        hits = []
        for one in self.documents:
            if query.condition and not holds(query.condition, one.fields):
                continue
            hit = Hit(one.id, 0.0, 0.0)
            if query.vector is not None:
                scores = exact_scores(query.collection.metric, query.vector, one.vector[None])
                hit = replace(hit, similarity=float(scores[0][0]), distance=float(scores[1][0]))
            elif query.text not in one.text:
                continue
            hit.text_score = hit.score = float(one.text.count(query.text)) if query.text else 0.0
            hit.vector = one.vector.tobytes() if query.return_vector else b""
            hit.fields = _selected(one.fields, query.return_fields)
            hits.append(hit)
        hits.sort(key=lambda hit: (-hit.text_score, hit.distance, hit.id))
        return Result(hits[query.offset : query.page_end])


def _selected(fields: dict[str, Value], names: frozenset[str] | None) -> dict[str, Value]:
    return {name: value for name, value in fields.items() if names is None or name in names}


def collection(**options: Any) -> Collection:
    settings: dict[str, Any] = {"name": "c", "dimensions": 2} | options
    engine = settings.get("engine", "vector_sets")
    return with_index_defaults(Collection(**settings), engine)
