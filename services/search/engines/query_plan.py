"""One query on its way through an engine: what is asked for, and what is made of the reply."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.search import metric_transforms
from services.search.engines.catalog import Record
from services.search.engines.documents import load_fields
from services.search.filters import holds
from services.search.metric_transforms import Lift, Wide
from services.search.text_analysis import stems
from services.search.types import Hit, Query, Result, Vector

# Up to so many documents, a filtered search looks at all of them: exact, and no slower.
SCANNED = 5_000
# Where scores are computed again, so many more are fetched; of quantised ones several times.
SPARE, SPARE_QUANTISED = 10, 4
# What is filtered after it was found: so many more are read.
SPARE_FILTERED = 100


@dataclass
class Search:
    """One query on its way; ``found`` has ids and cosines, nearest first."""

    query: Query
    record: Record
    lift: Lift
    expression: str
    vector: Vector | None
    norm: float = 0.0
    count: int = 0
    effort: int = 0
    coarse: bool = False
    whole: bool = False
    found: list[tuple[str, float]] = field(default_factory=list)
    similarities: Wide | Sequence[float] = ()
    distances: Wide | Sequence[float] = ()
    parts: list[dict[str, bytes]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    asked_for: int = 0
    lost: int = 0
    explanation: list[str] = field(default_factory=list)

    def prepare(self, size: int) -> None:
        """Decide how to ask, given about how many documents there are."""
        query, collection = self.query, self.record.collection
        quantised = collection.quantization != "none" or bool(collection.reduced)
        self.count = query.offset + query.limit + bool(query.document_id)
        if self.vector is not None:
            self.norm = float(np.linalg.norm(self.vector.astype(np.float64)))
            self.coarse = quantised or self.lift.is_coarse(self.norm)
        if query.text:
            self.stems = list(dict.fromkeys(stems(query.text)))
            self.count += SPARE_FILTERED if query.condition else 0
            return
        self.whole = query.exact or collection.index == "flat"
        self.whole = self.whole or (bool(query.condition) and size <= SCANNED)
        if self.coarse:
            self.count = self.count * (SPARE_QUANTISED if quantised else 1) + SPARE
        if quantised and query.exact:  # only the stored vectors tell
            self.count = max(self.count, size)
        self.effort = max(query.ef or collection.ef_runtime, self.count)

    @property
    def wanted(self) -> list[str]:
        """The parts of a document to read."""
        query = self.query
        names = ["v"] if self.coarse or query.return_vector else []
        checked = query.text and query.condition
        names += ["f"] if query.return_fields is None or query.return_fields or checked else []
        if query.text and not names:
            names = ["f"]  # a document that has expired is still listed by its words
        return names + (["t", "p"] if query.return_text else [])

    @property
    def reach(self) -> int:
        """How many to ask for.

        Of an approximate filtered search all that it has kept: if it could not fill its list of
        candidates, its effort has ended before it was sure of the nearest.
        """
        return self.effort if self.query.condition and not self.whole else self.count

    def is_short(self, size: int) -> bool:
        """Say whether an approximate search has found fewer than there are, and were asked for."""
        if self.query.text:
            return False
        return not self.whole and len(self.found) < min(self.reach, size)

    def keep_matching(self) -> None:
        """Drop what words have found and the filter does not let through."""
        condition = self.query.condition
        if condition:
            fields = [load_fields(part["f"]) for part in self.parts]
            kept = [number for number, one in enumerate(fields) if holds(condition, one)]
            self.found = [self.found[number] for number in kept]
            self.parts = [self.parts[number] for number in kept]

    def is_unsure(self) -> bool:
        """Say whether a scan may have left out what is nearer than its last hit, by rounding."""
        page = self.query.offset + self.query.limit
        if self.query.text:
            return self.asked_for == self.count and len(self.found) < page
        if not (self.whole and self.coarse) or len(self.found) < self.count:
            return False
        if len(self.distances) < page:
            return True
        last = float(np.partition(self.distances, page - 1)[page - 1])
        nearest_left = self.lift.score(
            self.found[-1][1] + metric_transforms.COSINE_ERROR, self.norm
        )[1]
        return last > nearest_left + metric_transforms.TIE * max(1.0, abs(last))


def score(search: Search) -> None:
    """Turn what was found into similarities and distances; compare again what is coarse."""
    if search.vector is None:
        search.scores = [score for _, score in search.found]
        search.similarities = search.distances = [0.0] * len(search.found)
    elif search.coarse and search.found:
        stored = np.frombuffer(b"".join(part["v"] for part in search.parts), "<f4")
        search.similarities, search.distances = metric_transforms.exact_scores(
            search.record.collection.metric, search.vector, stored.reshape(len(search.found), -1)
        )
    else:
        scores = [search.lift.score(cosine, search.norm) for _, cosine in search.found]
        search.similarities = [similarity for similarity, _ in scores]
        search.distances = [distance for _, distance in scores]


def result(search: Search, took: float) -> Result:
    """Order the hits, drop what is too far or the document asked by, and cut to the page."""
    query, ids = search.query, [key for key, _ in search.found]
    order = list(range(len(ids)))
    if query.text:
        order.sort(key=lambda at: (-search.scores[at], ids[at]))
    elif search.vector is not None:
        order.sort(key=lambda at: (search.distances[at], ids[at]))
    if query.document_id:
        order = [at for at in order if ids[at] != query.document_id]
    if query.min_similarity is not None:
        order = [at for at in order if search.similarities[at] >= query.min_similarity]
    page = order[query.offset : query.offset + query.limit]
    reason = ""
    if search.lost and not query.text and len(page) < query.limit:
        reason = f"{search.lost} hits were deleted while the search ran"
    hits = [_hit(search, at) for at in page]
    return Result(hits, took, reason, search.explanation)


def _hit(search: Search, at: int) -> Hit:
    query = search.query
    hit = Hit(search.found[at][0], float(search.similarities[at]), float(search.distances[at]))
    if query.text:
        hit.text_score = hit.score = search.scores[at]
    if not search.parts:
        return hit
    parts, chosen = search.parts[at], query.return_fields
    if "f" in parts and (chosen is None or chosen):
        fields = load_fields(parts["f"])
        hit.fields = {
            name: value for name, value in fields.items() if chosen is None or name in chosen
        }
    if query.return_text:
        hit.text, hit.payload = parts["t"].decode(), parts["p"]
    if query.return_vector:
        hit.vector = parts["v"]
    return hit
