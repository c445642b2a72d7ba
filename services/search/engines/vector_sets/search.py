"""Answers queries on vector sets: one pipeline for all of them, a second to read what they return.

A query is asked again only if its answer may be wrong: an approximate search that came short looks
at every element; an exact one whose float32 cosines cannot tell the last hit from the next asks for
more of them.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from services.errors import NotFound
from services.search.engines import scripts
from services.search.engines.catalog import Keys, Record, Records, changing
from services.search.engines.connection import Client, asking
from services.search.engines.documents import Documents
from services.search.engines.query_plan import Search, result, score
from services.search.engines.vector_sets import filter
from services.search.filters import Condition
from services.search.types import Query, Result

# Beyond SCANNED documents it may meet so many that fail the filter before it looks at all of them.
_FILTER_EFFORT = 2_000
# So many more are asked for when an answer may lack some.
_WIDER = 4
_TRIES = 20


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
                return [result(search, took) for search in searches]
            for name in {query.collection.name for query in queries}:
                await self._records.read(name)
        raise changing(queries[0].collection.name)

    def scan(self, record: Record, condition: Condition | None, count: int) -> list[Any]:
        """Return the command that names every element which meets a condition, up to a count."""
        collection = record.collection
        anywhere = np.zeros(collection.dimensions, np.float32)
        anywhere[0] = 1.0
        asked = record.index.lift(collection.lifted).asked(anywhere)
        words: list[Any] = ["VSIM", self._records.keys(record).vectors, "FP32", asked.tobytes()]
        words += ["COUNT", count, "TRUTH", *self._thread()]
        expression = _expression(record, condition)
        return words + (["FILTER", expression] if expression else [])

    async def _begin(self, query: Query) -> Search:
        record = await self._records.get(query.collection.name)
        if record.collection != query.collection:
            raise changing(query.collection.name)
        lift = record.index.lift(record.collection.lifted)
        return Search(query, record, lift, _expression(record, query.condition), query.vector)

    async def _find_vectors(self, searches: Sequence[Search]) -> None:
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

    async def _answer(self, searches: Sequence[Search]) -> bool:
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
            for search in enough:
                search.found = search.found[: search.count]
            await self._read(enough)
            unsure = [search for search in enough if search.is_unsure()]
            for search in unsure:
                search.count *= _WIDER
            asked = short + unsure
        return True

    def _size(self, search: Search) -> int:
        return self._sizes[search.record.collection.name]

    async def _ask(self, searches: Sequence[Search]) -> bool:
        records = {search.record.collection.name: search.record for search in searches}
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for search in searches:
                self._add(pipe, search)
            # The versions last: an index that was dropped meanwhile has left an empty answer.
            for record in records.values():
                keys = self._records.keys(record)
                pipe.hget(keys.record, "version")
                pipe.zcard(keys.ids)
            replies = await pipe.execute()
        found, tails = replies[: len(searches)], replies[len(searches) :]
        if tails[::2] != [b"%d" % record.version for record in records.values()]:
            return False
        self._sizes.update(zip(records, tails[1::2], strict=True))
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

    def _add(self, pipe: Any, search: Search) -> None:
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
            words += ["COUNT", search.reach, *self._effort(search), *self._thread()]
        if search.query.explain:
            search.explanation.append(
                " ".join("<vector>" if isinstance(word, bytes) else str(word) for word in words)
            )
        pipe.execute_command(*words)

    @staticmethod
    def _worded(search: Search, keys: Keys) -> list[Any]:
        if not search.stems:
            return ["ZRANGE", keys.scratch, 0, 0]  # nothing
        words: list[Any] = ["EVAL", scripts.LEXICAL, 2, keys.ids, keys.scratch, keys.term]
        return [*words, search.count, *search.stems]

    def _effort(self, search: Search) -> list[Any]:
        filtered: list[Any] = ["FILTER", search.expression] if search.expression else []
        if search.whole:
            return [*filtered, "TRUTH"]
        if filtered:
            filtered += ["FILTER-EF", _FILTER_EFFORT + search.count]
        return [*filtered, "EF", search.effort]

    def _thread(self) -> list[str]:
        return [] if self.background else ["NOTHREAD"]

    async def _read(self, searches: Sequence[Search]) -> None:
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
            score(search)

    async def _fetch(self, searches: Sequence[Search]) -> list[list[bytes | None]]:
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for search in searches:
                keys = self._records.keys(search.record)
                for key, _ in search.found:
                    pipe.execute_command("HMGET", keys.document(key), *search.wanted)
            rows: list[list[bytes | None]] = await pipe.execute()
        return rows


def _expression(record: Record, condition: Condition | None) -> str:
    fields = record.collection.fields
    return filter.compile_filter(condition, fields, expiring=record.expiring)


def _pairs(reply: Sequence[bytes]) -> list[tuple[str, float]]:
    """Read ids and cosines; Redis scores (1 + cos) / 2."""
    scores = zip(reply[::2], reply[1::2], strict=True)
    return [(key.decode(), 2 * float(score) - 1) for key, score in scores]
