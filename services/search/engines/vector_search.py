"""Answers queries on vector sets: one pipeline for all of them, a second to read what they return.

A query is asked again only if its answer may be wrong: an approximate search that came short looks
at every element; an exact one whose float32 cosines cannot tell the last hit from the next asks for
more of them.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.errors import NotFound
from services.search import lifts
from services.search.engines import expressions, scripts
from services.search.engines.connection import Client, asking
from services.search.engines.documents import Documents, load_fields
from services.search.engines.records import Keys, Record, Records, changing
from services.search.filters import Condition, holds
from services.search.lifts import Lift, Wide
from services.search.schema import Hit, Query, Result, Vector
from services.search.words import stems

# Up to so many documents, a filtered search looks at all of them: exact, and no slower.
SCANNED = 5_000
# Beyond that it may meet so many that fail the filter before it looks at all of them.
_FILTER_EFFORT = 2_000
# Where scores are computed again, so many more are fetched; of quantised ones several times.
_SPARE, _SPARE_QUANTISED, _WIDER = 10, 4, 4
# Words are looked for first and filtered then: so many more are read.
_SPARE_FILTERED = 100
_TRIES = 20


@dataclass
class _Search:
    """One query on its way; ``found`` has ids and cosines, nearest first."""

    query: Query
    record: Record
    lift: Lift
    expression: str
    vector: Vector | None
    norm: float = 0.0
    count: int = 0
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
        quantised = collection.quantization != "none"
        self.count = query.offset + query.limit + bool(query.document_id)
        if self.vector is not None:
            self.norm = float(np.linalg.norm(self.vector.astype(np.float64)))
            self.coarse = quantised or self.lift.is_coarse(self.norm)
        if query.text:
            self.stems = list(dict.fromkeys(stems(query.text)))
            self.count += _SPARE_FILTERED if query.condition else 0
            return
        self.whole = query.exact or collection.index == "flat"
        self.whole = self.whole or (bool(query.condition) and size <= SCANNED)
        if self.coarse:
            self.count = self.count * (_SPARE_QUANTISED if quantised else 1) + _SPARE
        if quantised and query.exact:  # only the stored vectors tell
            self.count = max(self.count, size)

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

    def is_short(self, size: int) -> bool:
        """Say whether an approximate search has found fewer than there are, and were asked for."""
        if self.query.text:
            return False
        return not self.whole and len(self.found) < min(self.count, size)

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
        nearest_left = self.lift.score(self.found[-1][1] + lifts.COSINE_ERROR, self.norm)[1]
        return last > nearest_left + lifts.TIE * max(1.0, abs(last))


class VectorSearch:
    """Answers queries; ``background`` lets Redis search on threads of its own."""

    def __init__(
        self,
        redis: Client,
        records: Records,
        documents: Documents,
        matching: Callable[[str, Condition | None], Awaitable[list[str]]],
    ) -> None:
        self._redis = redis
        self._records = records
        self._documents = documents
        self._matching = matching
        self._sizes: dict[str, int] = {}
        self.background = False

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in order. Raises NotFound for a document_id that is not there."""
        started = time.perf_counter()
        for _ in range(_TRIES):
            searches = [await self._begin(query) for query in queries]
            await self._find_vectors(searches)
            if await self._answer(searches):
                took = time.perf_counter() - started
                return [_result(search, took) for search in searches]
            for name in {query.collection.name for query in queries}:
                await self._records.read(name)
        raise changing(queries[0].collection.name)

    def scan(self, record: Record, condition: Condition | None, count: int) -> list[Any]:
        """Return the command that names every element which meets a condition, up to a count."""
        collection = record.collection
        anywhere = np.zeros(collection.dimensions, np.float32)
        anywhere[0] = 1.0
        asked = record.index.lift(collection.metric).asked(anywhere)
        words: list[Any] = ["VSIM", self._records.keys(record).vectors, "FP32", asked.tobytes()]
        words += ["COUNT", count, "TRUTH", *self._thread()]
        expression = _expression(record, condition)
        return words + (["FILTER", expression] if expression else [])

    async def _begin(self, query: Query) -> _Search:
        record = await self._records.get(query.collection.name)
        if record.collection != query.collection:
            raise changing(query.collection.name)
        lift = record.index.lift(record.collection.metric)
        return _Search(query, record, lift, _expression(record, query.condition), query.vector)

    async def _find_vectors(self, searches: Sequence[_Search]) -> None:
        """Read the vectors of the documents that are asked by."""
        by_id = [search for search in searches if search.query.document_id]
        if not by_id:
            return
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for search in by_id:
                keys = self._records.keys(search.record)
                pipe.hget(keys.document(search.query.document_id), "v")
                pipe.hget(keys.record, "version")
            replies = await pipe.execute()
        for search, vector, version in zip(by_id, replies[::2], replies[1::2], strict=True):
            if vector is not None:
                search.vector = np.frombuffer(vector, "<f4")
            elif version == b"%d" % search.record.version:
                raise NotFound(
                    "DOCUMENT_NOT_FOUND",
                    "There is no document of this id to search by.",
                    field="document_id",
                    id=search.query.document_id,
                )

    async def _answer(self, searches: Sequence[_Search]) -> bool:
        """Find and read the hits; return False if a collection has changed meanwhile."""
        for search in searches:
            search.prepare(self._sizes.get(search.record.collection.name, 0))
        asked = list(searches)
        while asked:
            if not await self._ask(asked):
                return False
            short = [one for one in asked if one.is_short(self._size(one))]
            for search in short:
                search.whole = True
            enough = [search for search in asked if not any(search is one for one in short)]
            await self._read(enough)
            unsure = [search for search in enough if search.is_unsure()]
            for search in unsure:
                search.count *= _WIDER
            asked = short + unsure
        return True

    def _size(self, search: _Search) -> int:
        return self._sizes[search.record.collection.name]

    async def _ask(self, searches: Sequence[_Search]) -> bool:
        records = {search.record.collection.name: search.record for search in searches}
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for record in records.values():
                keys = self._records.keys(record)
                pipe.hget(keys.record, "version")
                pipe.zcard(keys.ids)
            for search in searches:
                self._add(pipe, search)
            replies = await pipe.execute()
        heads, found = replies[: 2 * len(records)], replies[2 * len(records) :]
        if heads[::2] != [b"%d" % record.version for record in records.values()]:
            return False
        self._sizes.update(zip(records, heads[1::2], strict=True))
        for search, reply in zip(searches, found, strict=True):
            if search.query.text:
                search.found = [
                    (key.decode(), float(score))
                    for key, score in zip(reply[::2], reply[1::2], strict=True)
                ]
                search.asked_for = len(search.found)
            elif search.vector is not None:
                search.found = _pairs(reply)
            elif search.expression:
                ids = await self._matching(search.record.collection.name, search.query.condition)
                search.found = [(key, 0.0) for key in ids[: search.count]]
            else:
                search.found = [(key.decode(), 0.0) for key in reply]
        return True

    def _add(self, pipe: Any, search: _Search) -> None:
        """Add a query's command to the pipeline."""
        keys = self._records.keys(search.record)
        if search.query.text:
            words = self._worded(search, keys)
        elif search.vector is None:
            count = 0 if search.expression else search.count
            words = ["ZRANGEBYLEX", keys.ids, "-", "+", "LIMIT", 0, count]
        else:
            asked = search.lift.asked(search.vector)
            words = ["VSIM", keys.vectors, "FP32", asked.tobytes(), "WITHSCORES"]
            words += ["COUNT", search.count, *self._effort(search), *self._thread()]
        if search.query.explain:
            search.explanation.append(
                " ".join("<vector>" if isinstance(word, bytes) else str(word) for word in words)
            )
        pipe.execute_command(*words)

    @staticmethod
    def _worded(search: _Search, keys: Keys) -> list[Any]:
        if not search.stems:
            return ["ZRANGE", keys.scratch, 0, 0]  # nothing
        words: list[Any] = ["EVAL", scripts.LEXICAL, 2, keys.ids, keys.scratch, keys.term]
        return [*words, search.count, *search.stems]

    def _effort(self, search: _Search) -> list[Any]:
        filtered: list[Any] = ["FILTER", search.expression] if search.expression else []
        if search.whole:
            return [*filtered, "TRUTH"]
        effort = max(search.query.ef or search.record.collection.ef_runtime, search.count)
        if filtered:
            filtered += ["FILTER-EF", _FILTER_EFFORT + search.count]
        return [*filtered, "EF", effort]

    def _thread(self) -> list[str]:
        return [] if self.background else ["NOTHREAD"]

    async def _read(self, searches: Sequence[_Search]) -> None:
        """Read what is needed of the documents, and score them."""
        reading = [search for search in searches if search.wanted]
        stored = iter(await self._fetch(reading)) if reading else iter(())
        for search in searches:
            names = search.wanted
            if names:
                rows = [next(stored) for _ in search.found]
                kept = [any(value is not None for value in row) for row in rows]
                search.lost = len(rows) - sum(kept)
                search.found = [
                    one for one, is_kept in zip(search.found, kept, strict=True) if is_kept
                ]
                search.parts = [
                    {name: value or b"" for name, value in zip(names, row, strict=True)}
                    for row, is_kept in zip(rows, kept, strict=True)
                    if is_kept
                ]
            if search.query.text:
                search.keep_matching()
            _score(search)

    async def _fetch(self, searches: Sequence[_Search]) -> list[list[bytes | None]]:
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for search in searches:
                keys = self._records.keys(search.record)
                for key, _ in search.found:
                    pipe.execute_command("HMGET", keys.document(key), *search.wanted)
            rows: list[list[bytes | None]] = await pipe.execute()
        return rows


def _expression(record: Record, condition: Condition | None) -> str:
    fields = record.collection.fields
    return expressions.compile_filter(condition, fields, expiring=record.expiring)


def _pairs(reply: Sequence[bytes]) -> list[tuple[str, float]]:
    """Read ids and cosines; Redis scores (1 + cos) / 2."""
    scores = zip(reply[::2], reply[1::2], strict=True)
    return [(key.decode(), 2 * float(score) - 1) for key, score in scores]


def _score(search: _Search) -> None:
    if search.vector is None:
        search.scores = [score for _, score in search.found]
        search.similarities = search.distances = [0.0] * len(search.found)
    elif search.coarse and search.found:
        stored = np.frombuffer(b"".join(part["v"] for part in search.parts), "<f4")
        search.similarities, search.distances = lifts.exact_scores(
            search.record.collection.metric, search.vector, stored.reshape(len(search.found), -1)
        )
    else:
        scores = [search.lift.score(cosine, search.norm) for _, cosine in search.found]
        search.similarities = [similarity for similarity, _ in scores]
        search.distances = [distance for _, distance in scores]


def _result(search: _Search, took: float) -> Result:
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


def _hit(search: _Search, at: int) -> Hit:
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
