"""Answers queries with the Query Engine: one pipeline for all of them.

A query whose filter cannot be said exactly (circles are boxes to it) is asked again, wider, until
enough of what was found meets it.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.errors import NotFound
from services.search.engines.catalog import Keys, Record, Records, changing
from services.search.engines.connection import PATIENCE, Client, asking
from services.search.engines.documents import Documents
from services.search.engines.query_engine import filter, vectors
from services.search.engines.query_plan import (
    SPARE,
    SPARE_FILTERED,
    SPARE_QUANTISED,
    Search,
    result,
    score,
)
from services.search.filters import Condition
from services.search.text_analysis import stems
from services.search.types import Query, Result, Vector

_TRIES = 20
_WIDER = 8
_DISTANCE = "distance"
# The most hits that FT.SEARCH returns, by its own default (search-max-search-results).
_MOST = 1_000_000


class QuerySearch:
    """Answers queries."""

    def __init__(self, redis: Client, records: Records, documents: Documents) -> None:
        self._redis = redis
        self._records = records
        self._documents = documents

    async def matching(self, name: str, condition: Condition | None) -> list[str]:
        """Return the ids of all documents that meet a condition, in their order."""
        for _ in range(_TRIES):
            record = await self._records.get(name)
            query = Query(
                record.collection, condition=condition, limit=_MOST, return_fields=frozenset()
            )
            asked = _Asked(query, record, self._records.keys(record))
            if await self._ask([asked]):
                return sorted(key for key, _ in asked.search.found)
            await self._records.read(name)
        raise changing(name)

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries, in order, in one trip unless a filter takes more."""
        started = time.perf_counter()
        for _ in range(_TRIES):
            asked = []
            for query in queries:
                record = await self._records.get(query.collection.name)
                if record.collection != query.collection:
                    raise changing(query.collection.name)
                asked.append(_Asked(query, record, self._records.keys(record)))
            if await self._answer(asked):
                took = time.perf_counter() - started
                return [result(one.search, took) for one in asked]
            for name in {query.collection.name for query in queries}:
                await self._records.read(name)
        raise changing(queries[0].collection.name)

    async def _answer(self, asked: "Sequence[_Asked]") -> bool:
        """Find the hits; return False if a collection has changed meanwhile."""
        await self._find_vectors(asked)
        while asked:
            if not await self._ask(asked):
                return False
            asked = [one for one in asked if one.is_short()]
            for one in asked:
                one.count = min(one.count * _WIDER, _MOST)
        return True

    async def _find_vectors(self, asked: "Sequence[_Asked]") -> None:
        for one in asked:
            key = one.query.document_id
            if not key:
                continue
            [document] = await self._documents.get(one.search.record, [key])
            if document is None:
                raise NotFound(
                    "DOCUMENT_NOT_FOUND",
                    "There is no document of this id to search by.",
                    field="document_id",
                    id=key,
                )
            one.take(document.vector)

    async def _ask(self, asked: "Sequence[_Asked]") -> bool:
        records = {one.search.record.collection.name: one.search.record for one in asked}
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for one in asked:
                pipe.execute_command(*one.words())
            # The versions last: an index that was dropped meanwhile has answered nothing, or wrong.
            for record in records.values():
                pipe.hget(self._records.keys(record).record, "version")
            replies = await pipe.execute(raise_on_error=False)
        found, versions = replies[: len(asked)], replies[len(asked) :]
        if versions != [b"%d" % record.version for record in records.values()]:
            return False
        for reply in found:
            if isinstance(reply, Exception):
                async with asking():
                    raise reply
        for one, reply in zip(asked, found, strict=True):
            one.read(reply)
        return True


@dataclass
class _Asked:
    """A query in the dialect; ``search`` is what becomes of it."""

    query: Query
    record: Record
    keys: Keys

    def __post_init__(self) -> None:
        record, query = self.record, self.query
        fields = record.collection.fields
        expression = filter.compile_filter(query.condition, fields, expiring=record.expiring)
        lift = record.index.lift(record.collection.lifted)
        self.search = Search(query, record, lift, expression, None)
        self.loose = filter.is_loose(query.condition)
        self.total = 0
        self.count = query.offset + query.limit + bool(query.document_id)
        self.count += SPARE_FILTERED if self.loose else 0
        if query.text:
            self.search.stems = list(dict.fromkeys(stems(query.text)))
        if query.vector is not None:
            self.take(query.vector)

    def take(self, vector: Vector) -> None:
        """Ask by a vector."""
        search, collection = self.search, self.record.collection
        search.vector = vector
        search.norm = float(np.linalg.norm(vector.astype(np.float64)))
        search.coarse = collection.lifted != "cosine" or collection.vector_type != "float32"
        search.coarse = search.coarse or collection.index == "svs_vamana"
        if search.coarse:
            rough = collection.vector_type == "int8" or collection.index == "svs_vamana"
            self.count = self.count * (SPARE_QUANTISED if rough else 1) + SPARE
        self.count = min(self.count, _MOST)

    def words(self) -> list[Any]:
        """Return the command."""
        search, parameters = self.search, []
        if search.vector is not None:
            parameters = ["PARAMS", 2, "b", self._asked_vector(search.vector)]
        words: list[Any] = ["FT.SEARCH", self.keys.index(self.record.index), self._expression()]
        words += ["WITHSCORES", "SCORER", "BM25STD"] if search.query.text else []
        words += ["SORTBY", _DISTANCE] if search.vector is not None else []
        wanted = self._wanted()
        words += ["RETURN", len(wanted), *wanted] if wanted else ["NOCONTENT"]
        words += ["LIMIT", 0, self.count, "TIMEOUT", int(PATIENCE * 1000), *parameters]
        words += ["DIALECT", 2]
        if search.query.explain:
            search.explanation.append(
                " ".join("<vector>" if isinstance(word, bytes) else str(word) for word in words)
            )
        return words

    def read(self, reply: Sequence[Any]) -> None:
        """Read ids, scores and what else was returned; drop what does not meet the filter."""
        search, wanted = self.search, self._wanted()
        worded = bool(search.query.text)
        step = 1 + worded + bool(wanted)
        self.total = int(reply[0])
        rows = [reply[at : at + step] for at in range(1, len(reply), step)]
        search.asked_for = len(rows)
        search.found, search.parts = [], []
        for row in rows:
            part = pairs(row[-1] or ()) if wanted else {}
            if wanted and not part:
                continue  # deleted or expired meanwhile
            value = float(row[1]) if worded else float(part.get(_DISTANCE, 0.0))
            search.found.append((self.keys.id_of(row[0]), value))
            search.parts.append({name: part.get(name, b"") for name in wanted})
        if self.loose:
            search.keep_matching()
        self._score()
        if not search.query.text and not search.wanted:
            search.parts = []

    def is_short(self) -> bool:
        """Say whether there may be more that meet the filter than were found."""
        search = self.search
        page = search.query.offset + search.query.limit + bool(search.query.document_id)
        return self.loose and search.asked_for == self.count and len(search.found) < page

    def _wanted(self) -> list[str]:
        names = list(self.search.wanted)
        if self.loose and "f" not in names:
            names.append("f")
        return names + ([_DISTANCE] if self.search.vector is not None else [])

    def _expression(self) -> str:
        search, collection = self.search, self.record.collection
        expression = search.expression
        if search.query.text:
            sought = f"(@s:({'|'.join(search.stems)}))" if search.stems else filter.NONE
            return f"{sought} {expression}" if expression else sought
        if search.vector is None:
            return expression or "*"
        field = vectors.field(collection, self.record.index)
        how = ""
        if search.query.exact and collection.index != "flat":
            expression, how = expression or f"({filter.ALL})", " HYBRID_POLICY ADHOC_BF"
        elif collection.index == "hnsw":
            effort = max(search.query.ef or collection.ef_runtime, self.count)
            how = f" EF_RUNTIME {effort}"
        elif collection.index == "svs_vamana":
            window = max(
                search.query.ef or int(collection.svs.get("SEARCH_WINDOW_SIZE", 0)), self.count
            )
            how = f" SEARCH_WINDOW_SIZE {window}"
        return f"{expression or '*'}=>[KNN {self.count} @{field} $b{how} AS {_DISTANCE}]"

    def _asked_vector(self, vector: Vector) -> bytes:
        collection, rows = self.record.collection, vector[None]
        if collection.lifted != "cosine":
            rows = self.search.lift.asked(vector)[None]
        return vectors.typed(rows, collection)[0]

    def _score(self) -> None:
        search, metric = self.search, self.record.collection.metric
        native = search.vector is not None and not search.coarse
        if native:
            distances = [_distance(metric, value) for _, value in search.found]
            search.distances = distances
            search.similarities = [_similarity(metric, value) for value in distances]
        else:
            score(search)


def _distance(metric: str, value: float) -> float:
    """Return the contract's distance: Redis says 1 - cos, 1 - u·v and the squared distance."""
    if metric == "l2":
        return math.sqrt(max(value, 0.0))
    return value - 1 if metric == "ip" else value


def _similarity(metric: str, distance: float) -> float:
    if metric == "l2":
        return 1 / (1 + distance)
    return -distance if metric == "ip" else 1 - distance


def pairs(values: Sequence[Any]) -> dict[str, Any]:
    """Return names and values that come in turn as a dictionary."""
    return {name.decode(): value for name, value in zip(values[::2], values[1::2], strict=True)}
