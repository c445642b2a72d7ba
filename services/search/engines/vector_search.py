"""Answers queries on vector sets: one pipeline for all of them, a second for what it left open."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.errors import NotFound
from services.search import lifts
from services.search.engines import expressions
from services.search.engines.connection import Client, asking
from services.search.engines.records import Record, Records, contended
from services.search.engines.vector_sets import VectorSets, living, load_fields
from services.search.schema import Hit, Query, Result, Vector

# Up to so many documents a filtered search looks at all of them: exact, and no slower.
SCANNED = 10_000
# Beyond that, an approximate search may pass over so many that fail the filter, then looks at all.
_FILTER_EFFORT = 2_000
# Scores of lifted or quantised vectors are coarse: so many more are fetched, and compared exactly.
_SPARE, _SPARE_QUANTISED = 10, 4
_TRIES = 20


@dataclass
class _Search:
    """One query on its way: what was found so far, nearest first, with cosines."""

    query: Query
    record: Record
    vector: Vector | None = None
    expression: str = ""
    whole: bool = False
    found: list[tuple[str, float]] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many to fetch."""
        wanted = self.query.offset + self.query.limit + bool(self.query.document_id)
        if self.record.collection.quantization != "none":
            return wanted * _SPARE_QUANTISED + _SPARE
        return wanted + (_SPARE if self.coarse else 0)

    @property
    def coarse(self) -> bool:
        """Whether scores must be computed again from the stored vectors."""
        collection = self.record.collection
        return collection.metric == "l2" or collection.quantization != "none"

    @property
    def reads(self) -> bool:
        """Whether the documents themselves are needed."""
        query = self.query
        wants = query.return_fields is None or query.return_fields or query.return_text
        return bool(wants or query.return_vector or self.coarse)


class VectorSearch:
    """Answers queries; ``background`` lets Redis search on threads of its own."""

    def __init__(self, redis: Client, records: Records, sets: VectorSets) -> None:
        self._redis = redis
        self._records = records
        self._sets = sets
        self._sizes: dict[str, int] = {}
        self.background = False

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in order. Raises NotFound for a document_id that is not there."""
        started = time.perf_counter()
        for _ in range(_TRIES):
            searches = [
                _Search(query, await self._records.get(query.collection)) for query in queries
            ]
            await self._find_vectors(searches)
            if await self._rank(searches):
                results = await self._results(searches)
                for result in results:
                    result.took = time.perf_counter() - started
                return results
            for name in {query.collection for query in queries}:
                await self._records.read(name)
        raise contended(queries[0].collection)

    async def _find_vectors(self, searches: Sequence[_Search]) -> None:
        by_id = [search for search in searches if search.query.document_id]
        if by_id:
            async with asking(), self._redis.pipeline(transaction=False) as pipe:
                for search in by_id:
                    keys = self._records.keys(search.record)
                    pipe.hget(keys.document(search.query.document_id), "v")
                vectors = await pipe.execute()
            for search, vector in zip(by_id, vectors, strict=True):
                if vector is None:
                    raise NotFound(
                        "DOCUMENT_NOT_FOUND",
                        "There is no document of this id to search by.",
                        field="document_id",
                        id=search.query.document_id,
                    )
                search.vector = np.frombuffer(vector, "<f4")
        for search in searches:
            if search.query.vector is not None:
                search.vector = search.query.vector
            condition = search.query.condition
            declared = list(search.record.collection.fields)
            compiled = expressions.compile_filter(condition, declared) if condition else ""
            search.expression = living(search.record, compiled)

    async def _rank(self, searches: Sequence[_Search]) -> bool:
        """Fill in what is found; return False if a collection has changed meanwhile."""
        nearest = [search for search in searches if search.vector is not None]
        records = {search.record.collection.name: search.record for search in searches}
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for record in records.values():
                pipe.hget(self._records.keys(record).record, "version")
                pipe.zcard(self._records.keys(record).ids)
            for search in nearest:
                search.whole = self._looks_at_all(search)
                self._ask(pipe, search)
            replies = await pipe.execute()
        heads, found = replies[: 2 * len(records)], replies[2 * len(records) :]
        versions = [b"%d" % record.version for record in records.values()]
        if heads[::2] != versions:
            return False
        self._sizes.update(zip(records, heads[1::2], strict=True))
        for search, reply in zip(nearest, found, strict=True):
            search.found = _pairs(reply)
        await self._complete(nearest)
        for search in searches:
            if search.vector is None:
                await self._list(search)
        return True

    def _looks_at_all(self, search: _Search) -> bool:
        """Say whether to compare with every element: asked for, or as cheap under a filter."""
        if search.query.exact or search.record.collection.index == "flat":
            return True
        size = self._sizes.get(search.record.collection.name, 0)
        return bool(search.expression) and size <= SCANNED

    async def _complete(self, searches: Sequence[_Search]) -> None:
        """Look at all elements where an approximate search found fewer than it should."""
        short = [
            search
            for search in searches
            if not search.whole
            and len(search.found) < min(search.count, self._sizes[search.record.collection.name])
        ]
        if not short:
            return
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for search in short:
                search.whole = True
                self._ask(pipe, search)
            replies = await pipe.execute()
        for search, reply in zip(short, replies, strict=True):
            search.found = _pairs(reply)

    def _ask(self, pipe: Any, search: _Search) -> None:
        collection = search.record.collection
        assert search.vector is not None  # noqa: S101 - only such searches are asked
        asked = search.record.index.lift(collection.metric).asked(search.vector)
        words: list[Any] = [self._records.keys(search.record).vectors, "FP32"]
        words += [asked.astype("<f4").tobytes(), "WITHSCORES", "COUNT", search.count]
        if not search.whole:
            words += ["EF", max(search.query.ef or collection.ef_runtime, search.count)]
        if search.expression:
            words += ["FILTER", search.expression]
            words += [] if search.whole else ["FILTER-EF", _FILTER_EFFORT + search.count]
        words += ["TRUTH"] if search.whole else []
        words += [] if self.background else ["NOTHREAD"]
        if search.query.explain:
            shown = [word if not isinstance(word, bytes) else "<vector>" for word in words]
            search.explanation.append(" ".join(map(str, ["VSIM", *shown])))
        pipe.execute_command("VSIM", *words)

    async def _list(self, search: _Search) -> None:
        """Answer a query for everything, in the order of the ids."""
        query, wanted = search.query, search.query.offset + search.query.limit
        if query.condition or search.record.expiring:
            ids = await self._sets.matching(search.record, query.condition)
        else:
            ids = await self._sets.ids(search.record, "", wanted)
        search.found = [(key, 0.0) for key in ids[:wanted]]

    async def _results(self, searches: Sequence[_Search]) -> list[Result]:
        read = [search for search in searches if search.reads]
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for search in read:
                keys = self._records.keys(search.record)
                for key, _ in search.found:
                    pipe.hmget(keys.document(key), _wanted(search))
            stored = iter(await pipe.execute())
        results = []
        for search in searches:
            hits = [_hit(search, key, cosine) for key, cosine in search.found]
            if search.reads:
                hits = [hit for hit in hits if _fill(search, hit, next(stored))]
            results.append(_cut(search, hits))
        return results


def _pairs(reply: Sequence[bytes]) -> list[tuple[str, float]]:
    """Read ids and cosines; Redis scores (1 + cos) / 2."""
    scores = zip(reply[::2], reply[1::2], strict=True)
    return [(key.decode(), 2 * float(score) - 1) for key, score in scores]


def _wanted(search: _Search) -> list[str]:
    """Return the parts of a document to read; which exist is always seen by one of them."""
    query = search.query
    names = ["v"] if search.coarse or query.return_vector else []
    names += ["f"] if query.return_fields is None or query.return_fields else []
    return names + (["t", "p"] if query.return_text else [])


def _hit(search: _Search, key: str, cosine: float) -> Hit:
    if search.vector is None:
        return Hit(key, 0.0, 0.0)
    lift = search.record.index.lift(search.record.collection.metric)
    return Hit(key, *lift.score(cosine, search.vector))


def _fill(search: _Search, hit: Hit, values: Sequence[bytes | None]) -> bool:
    """Add what was read of a document; return False if it is gone."""
    parts = dict(zip(_wanted(search), values, strict=True))
    if all(value is None for value in values):
        return False
    query, collection = search.query, search.record.collection
    if search.coarse and search.vector is not None:
        stored = np.frombuffer(parts["v"] or b"", "<f4")
        scores = lifts.exact_score(collection.metric, search.vector, stored)
        hit.similarity, hit.distance = scores
    if "f" in parts:
        fields = load_fields(parts["f"] or b"{}")
        chosen = query.return_fields
        hit.fields = {
            name: value for name, value in fields.items() if chosen is None or name in chosen
        }
    if query.return_text:
        hit.text, hit.payload = (parts["t"] or b"").decode(), parts["p"] or b""
    if query.return_vector:
        hit.vector = parts["v"] or b""
    return True


def _cut(search: _Search, hits: list[Hit]) -> Result:
    """Order the hits, drop what is too far or the document asked by, and cut to the page."""
    query = search.query
    hits = [hit for hit in hits if hit.id != query.document_id or not query.document_id]
    if search.vector is not None:
        hits.sort(key=lambda hit: (-hit.similarity, hit.id))
    if query.min_similarity is not None:
        hits = [hit for hit in hits if hit.similarity >= query.min_similarity]
    return Result(hits[query.offset : query.offset + query.limit], explanation=search.explanation)
