"""Plans one query: how many candidates an engine fetches, and how they become hits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.search import metric_transforms
from services.search.engines.documents import load_fields
from services.search.engines.record import Record
from services.search.filters import holds
from services.search.metric_transforms import Float64Array, MetricTransform
from services.search.text_analysis import query_stems
from services.search.types import Hit, Query, Result, Vector, selected_fields

# With up to this many documents, a filtered search scans all of them: exact and not slower.
MAX_SCANNED_DOCUMENTS = 5_000
# Rescoring reads this many more candidates, and several times as many from a quantized index.
RESCORING_EXTRA, QUANTIZED_OVERSAMPLING = 10, 4
# Filtering after the search reads this many more candidates.
FILTERING_EXTRA = 100


@dataclass
class QueryPlan:
    """The state of one query in an engine.

    Attributes:
        transform: transform of the index that answers.
        filter_expression: the query's filter in the language of the engine; empty for none.
        vector: the query's vector, float32 [dimensions]; None for a query without one.
        query_norm: norm of the vector.
        count: number of candidates to fetch.
        ef: number of candidates that HNSW keeps.
        rescore: compute scores again from the stored vectors.
        full_scan: compare every vector instead of searching the graph.
        candidates: ids and scores of the engine, best first.
        documents: the parts of each candidate's document that were read, by hash field.
        fetched: number of candidates that the engine returned.
        missing: number of candidates whose document was gone.
    """

    query: Query
    record: Record
    transform: MetricTransform
    filter_expression: str
    vector: Vector | None
    query_norm: float = 0.0
    count: int = 0
    ef: int = 0
    rescore: bool = False
    full_scan: bool = False
    stems: list[str] = field(default_factory=list)
    candidates: list[tuple[str, float]] = field(default_factory=list)
    documents: list[dict[str, bytes]] = field(default_factory=list)
    similarities: Float64Array | Sequence[float] = ()
    distances: Float64Array | Sequence[float] = ()
    text_scores: list[float] = field(default_factory=list)
    fetched: int = 0
    missing: int = 0
    explanation: list[str] = field(default_factory=list)

    def set_vector(self, vector: Vector) -> None:
        """Set the query's vector."""
        self.vector = vector
        self.query_norm = float(np.linalg.norm(vector.astype(np.float64)))

    def set_stems(self) -> None:
        """Set the distinct stems of the query's text."""
        self.stems = list(dict.fromkeys(query_stems(self.query.text)))

    def prepare(self, document_count: int) -> None:
        """Decide how vector sets search, given the approximate number of documents."""
        query, collection = self.query, self.record.collection
        is_quantized = collection.quantization != "none" or bool(collection.reduced_dimensions)
        self.count = self.page_end
        if self.vector is not None:
            self.set_vector(self.vector)
            self.rescore = is_quantized or self.transform.needs_rescoring(self.query_norm)
        if query.text:
            self.set_stems()
            self.count += FILTERING_EXTRA if query.condition else 0
            return
        is_small = document_count <= MAX_SCANNED_DOCUMENTS
        self.full_scan = (
            query.exact or collection.index == "flat" or (bool(query.condition) and is_small)
        )
        if self.rescore:
            self.count *= QUANTIZED_OVERSAMPLING if is_quantized else 1
            self.count += RESCORING_EXTRA
        if is_quantized and query.exact:  # only the stored vectors are exact
            self.count = max(self.count, document_count)
        self.ef = max(query.ef or collection.ef_runtime, self.count)

    @property
    def page_end(self) -> int:
        """The number of hits up to the end of the page, including the query's own document."""
        return self.query.page_end + bool(self.query.document_id)

    @property
    def parts(self) -> list[str]:
        """The hash fields of a document to read."""
        query = self.query
        names = ["v"] if self.rescore or query.return_vector else []
        is_filtered_here = query.text and query.condition
        if query.return_fields is None or query.return_fields or is_filtered_here:
            names.append("f")
        if query.text and not names:
            names = ["f"]  # the sets of the stems still list documents that have expired
        return names + (["t", "p"] if query.return_text else [])

    @property
    def requested(self) -> int:
        """The number of candidates to request.

        An approximate filtered search requests all candidates that HNSW keeps. If that list is not
        full, the search ended before it could be sure of the nearest ones.
        """
        return self.ef if self.query.condition and not self.full_scan else self.count

    def is_incomplete(self, document_count: int) -> bool:
        """Return whether an approximate search found too few of the available candidates."""
        if self.query.text or self.full_scan:
            return False
        return len(self.candidates) < min(self.requested, document_count)

    def filter_candidates(self) -> None:
        """Drop candidates whose document does not match the query's condition."""
        condition = self.query.condition
        if condition:
            fields = [load_fields(document["f"]) for document in self.documents]
            matching = [at for at, one in enumerate(fields) if holds(condition, one)]
            self.candidates = [self.candidates[at] for at in matching]
            self.documents = [self.documents[at] for at in matching]

    def may_lack_hits(self) -> bool:
        """Return whether more candidates are needed to fill or to order the page.

        A text query may have lost candidates to its filter. A full scan orders candidates by
        float32 cosines, so one that it did not return can be nearer than the last hit.
        """
        page_end = self.query.page_end
        if self.query.text:
            return self.fetched == self.count and len(self.candidates) < page_end
        if not (self.full_scan and self.rescore) or len(self.candidates) < self.count:
            return False
        if len(self.distances) < page_end:
            return True
        last = float(np.partition(self.distances, page_end - 1)[page_end - 1])
        highest_cosine = self.candidates[-1][1] + metric_transforms.MAX_COSINE_ERROR
        nearest_missing = self.transform.inverse(highest_cosine, self.query_norm)[1]
        tolerance = metric_transforms.DISTANCE_TOLERANCE * max(1.0, abs(last))
        return last > nearest_missing + tolerance

    def score_candidates(self) -> None:
        """Compute similarities and distances from the engine's scores or the stored vectors."""
        if self.vector is None:
            self.text_scores = [score for _, score in self.candidates]
            self.similarities = self.distances = [0.0] * len(self.candidates)
        elif self.rescore and self.candidates:
            stored = np.frombuffer(b"".join(one["v"] for one in self.documents), "<f4")
            self.similarities, self.distances = metric_transforms.exact_scores(
                self.record.collection.metric,
                self.vector,
                stored.reshape(len(self.candidates), -1),
            )
        else:
            scores = [
                self.transform.inverse(cosine, self.query_norm) for _, cosine in self.candidates
            ]
            self.similarities = [similarity for similarity, _ in scores]
            self.distances = [distance for _, distance in scores]

    def explain(self, command: Sequence[Any]) -> None:
        """Record a command for the caller, if the query asks for an explanation."""
        if self.query.explain:
            self.explanation.append(
                " ".join("<vector>" if isinstance(word, bytes) else str(word) for word in command)
            )

    def result(self, took: float) -> Result:
        """Return the page of hits without the query's own document; ``took`` is in seconds."""
        query, ids = self.query, [document_id for document_id, _ in self.candidates]
        order = list(range(len(ids)))
        if query.text:
            order.sort(key=lambda at: (-self.text_scores[at], ids[at]))
        elif self.vector is not None:
            order.sort(key=lambda at: (self.distances[at], ids[at]))
        if query.document_id:
            order = [at for at in order if ids[at] != query.document_id]
        if query.min_similarity is not None:
            order = [at for at in order if self.similarities[at] >= query.min_similarity]
        page = order[query.offset : query.page_end]
        reason = ""
        if self.missing and not query.text and len(page) < query.limit:
            reason = f"{self.missing} hits were deleted while the search ran"
        return Result([self._hit(at) for at in page], took, reason, self.explanation)

    def _hit(self, at: int) -> Hit:
        query = self.query
        similarity, distance = float(self.similarities[at]), float(self.distances[at])
        hit = Hit(self.candidates[at][0], similarity, distance)
        if query.text:
            hit.text_score = hit.score = self.text_scores[at]
        if not self.documents:
            return hit
        document, names = self.documents[at], query.return_fields
        if "f" in document and (names is None or names):
            hit.fields = selected_fields(load_fields(document["f"]), names)
        if query.return_text:
            hit.text, hit.payload = document["t"].decode(), document["p"]
        if query.return_vector:
            hit.vector = document["v"]
        return hit
