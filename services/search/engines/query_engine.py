"""The engine over the Query Engine (FT.CREATE, FT.SEARCH).

A document is a hash with its vector as it came, and what the index reads: fields to filter by,
stems to rank words by, and, where the index keeps another form of the vector, that form as
``i<n>``.
Commands: https://redis.io/docs/latest/commands/ft.search/
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from redis import exceptions

from services.errors import FailedPrecondition, NotFound
from services.search.engines import query_dialect, scripts
from services.search.engines.connection import PATIENCE, Client, asking
from services.search.engines.documents import Documents, dump_fields, expiry
from services.search.engines.engine import Size
from services.search.engines.rebuilds import Rebuilds
from services.search.engines.records import Index, Keys, Record, Records, changing
from services.search.engines.searches import (
    SPARE,
    SPARE_FILTERED,
    SPARE_QUANTISED,
    Search,
    result,
    score,
)
from services.search.filters import Condition
from services.search.schema import Collection, Document, Query, Result, Vector
from services.search.words import stems

_TRIES = 20
_WIDER = 8
_POLL = 0.05
_DISTANCE = "distance"
_METRICS = {"cosine": "COSINE", "ip": "IP", "l2": "L2"}
# The most hits that FT.SEARCH returns, by its own default (search-max-search-results).
_MOST = 1_000_000


class QueryEngine:
    """Writes, finds and deletes documents of collections that are indexes of the Query Engine."""

    def __init__(self, redis: Client, records: Records, documents: Documents) -> None:
        self._redis = redis
        self._records = records
        self._documents = documents
        self._rebuilds = Rebuilds(redis, records, documents, self)
        self._upsert = redis.register_script(scripts.UPSERT_HASHES)
        self.copy = redis.register_script(scripts.COPY_HASHES)

    async def prepare(self, record: Record) -> None:
        """Create the index of a new collection."""
        await self.start(record, record.index)

    async def upsert(
        self, collection: Collection, documents: Sequence[Document]
    ) -> tuple[int, int]:
        """Write documents, all or nothing; return how many were new and how many replaced."""
        vectors = np.stack([document.vector for document in documents])
        expiring = any(document.ttl for document in documents)
        for _ in range(_TRIES):
            record = await self._rebuilds.fit(collection.name, vectors, [], expiring=expiring)
            if record.collection != collection:
                break
            async with asking():
                created = await self._upsert(
                    keys=self._records.keys(record).script(one.id for one in documents),
                    args=_written(record, documents, vectors),
                )
            if created != b"stale":
                return int(created), len(documents) - int(created)
            await self._records.read(collection.name)
        raise changing(collection.name)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        return await self._documents.delete(name, ids, "all")

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

    async def size(self, record: Record) -> Size:
        """Return what the index takes, whether it is complete, and the longest vector it holds."""
        info = await self._info(record, record.index)
        memory = float(info.get("total_index_memory_sz_mb", 0)) * 2**20
        failures = int(info.get("hash_indexing_failures", 0))
        warnings = [f"{failures} documents could not be indexed."] if failures else []
        return Size(int(memory), record.index.max_norm, _is_complete(info), warnings)

    async def maintain(self, name: str) -> None:
        """Delete what has expired; end a rebuild that was cut short."""
        record = await self._records.read(name)
        await self._rebuilds.resume(record)
        await self._documents.delete_expired(record)

    async def start(self, record: Record, index: Index) -> None:
        """Create an index of a generation, unless it is there."""
        keys, collection = self._records.keys(record), record.collection
        words = ["FT.CREATE", keys.index(index), "ON", "HASH", "PREFIX", 1, keys.document("")]
        words += ["STOPWORDS", 0, "SCHEMA"]
        words += query_dialect.attributes(collection.fields, words=collection.index_text)
        async with asking():
            try:
                await self._redis.execute_command(*words, *_vector_schema(record, index))
            except exceptions.ResponseError as error:
                if "already exists" in str(error).lower():
                    return
                if "Bad arguments" in str(error):
                    raise _unknown_index(collection) from error
                raise

    async def finish(self, record: Record, index: Index) -> None:
        """Wait until an index holds every document."""
        while not _is_complete(await self._info(record, index)):  # noqa: ASYNC110 - Redis has none
            await asyncio.sleep(_POLL)

    async def drop(self, record: Record, index: Index) -> None:
        """Drop an index; the documents stay."""
        name = self._records.keys(record).index(index)
        async with asking():
            with contextlib.suppress(exceptions.ResponseError):  # there is none
                await self._redis.execute_command("FT.DROPINDEX", name)

    def copied(self, record: Record, documents: Sequence[Document], lifted: Vector) -> list[Any]:
        """Return the arguments of the COPY_HASHES script."""
        args: list[Any] = [record.version, _field(record, record.newest)]
        rows = _typed(lifted, record.collection)
        for document, row in zip(documents, rows, strict=True):
            args += [document.id, row]
        return args

    async def _info(self, record: Record, index: Index) -> dict[str, Any]:
        async with asking():
            reply = await self._redis.execute_command(
                "FT.INFO", self._records.keys(record).index(index)
            )
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return {name.decode(): value for name, value in pairs}

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
            for record in records.values():
                pipe.hget(self._records.keys(record).record, "version")
            for one in asked:
                pipe.execute_command(*one.words())
            replies = await pipe.execute(raise_on_error=False)
        versions, found = replies[: len(records)], replies[len(records) :]
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
        expression = query_dialect.compile_filter(query.condition, fields, expiring=record.expiring)
        lift = record.index.lift(record.collection.lifted)
        self.search = Search(query, record, lift, expression, None)
        self.loose = query_dialect.is_loose(query.condition)
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
        beginning = len(self.keys.document("").encode())
        search.found, search.parts = [], []
        for row in rows:
            part = {} if not wanted else _pairs(row[-1])
            if wanted and not part:
                continue  # it has expired
            value = float(row[1]) if worded else float(part.get(_DISTANCE, 0.0))
            search.found.append((row[0][beginning:].decode(), value))
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
            sought = f"(@s:({'|'.join(search.stems)}))" if search.stems else query_dialect.NONE
            return f"{sought} {expression}" if expression else sought
        if search.vector is None:
            return expression or "*"
        field = _field(self.record, self.record.index)
        how = ""
        if search.query.exact and collection.index != "flat":
            expression, how = expression or f"({query_dialect.ALL})", " HYBRID_POLICY ADHOC_BF"
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
        return _typed(rows, collection)[0]

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


def _pairs(values: Sequence[bytes]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(values[::2], values[1::2], strict=True)}


def _field(record: Record, index: Index) -> str:
    """Return the hash field that an index reads its vectors from."""
    collection = record.collection
    if collection.lifted == "cosine" and collection.vector_type == "float32":
        return "v"
    return f"i{index.generation}"


def _typed(rows: Vector, collection: Collection) -> list[bytes]:
    """Return vectors, float32 [n, dimensions], in the type of the index."""
    kind = collection.vector_type
    if kind == "int8":  # only directions matter
        rows = np.round(rows * (127 / np.abs(rows).max(axis=1, keepdims=True)))
        return [row.tobytes() for row in rows.astype(np.int8)]
    if kind == "bfloat16":
        bits = np.ascontiguousarray(rows, "<f4").view("<u4").astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return [row.tobytes() for row in rounded.astype("<u2")]
    return [row.tobytes() for row in rows.astype("<f2" if kind == "float16" else "<f4")]


def _vector_schema(record: Record, index: Index) -> list[Any]:
    collection = record.collection
    extra = {"ip": 1, "l2": 2, "cosine": 0}[collection.lifted]
    metric = collection.metric if collection.lifted == "cosine" else "cosine"
    options: list[Any] = ["TYPE", collection.vector_type.upper()]
    options += ["DIM", collection.dimensions + extra, "DISTANCE_METRIC", _METRICS[metric]]
    if collection.index == "hnsw":
        options += ["M", collection.m, "EF_CONSTRUCTION", collection.ef_construction]
    for name, value in collection.svs.items():
        options += [name, value]
    kind = collection.index.upper().replace("_", "-")
    return [_field(record, index), "VECTOR", kind, len(options), *options]


def _written(record: Record, documents: Sequence[Document], vectors: Vector) -> list[Any]:
    """Return the arguments of the UPSERT_HASHES script."""
    collection = record.collection
    forms = [
        (_field(record, index), _typed(_stored(collection, index, vectors), collection))
        for index in (record.index, record.building)
        if index and _field(record, index) != "v"
    ]
    args: list[Any] = [record.version]
    for number, document in enumerate(documents):
        ends = expiry(document)
        pairs = ["v", document.vector.tobytes(), "f", dump_fields(document.fields)]
        pairs += ["t", document.text, "p", document.payload]
        pairs += query_dialect.hash_fields(document.fields, collection.fields, ends)
        if collection.index_text:
            pairs += ["s", " ".join(stems(document.text))]
        for name, rows in forms:
            pairs += [name, rows[number]]
        args += [document.id, ends, len(pairs), *pairs]
    return args


def _stored(collection: Collection, index: Index, vectors: Vector) -> Vector:
    if collection.lifted == "cosine" and collection.metric != "cosine":
        return vectors
    return index.lift(collection.lifted).stored(vectors)


def _is_complete(info: dict[str, Any]) -> bool:
    return float(info.get("percent_indexed", 0)) >= 1 and not int(info.get("indexing", 0))


def _unknown_index(collection: Collection) -> FailedPrecondition:
    return FailedPrecondition(
        "INDEX_NOT_SUPPORTED",
        "This server's Query Engine does not know such an index: SVS-VAMANA needs Redis 8.2, INT8"
        " Redis 8.0, FLOAT16 and BFLOAT16 Redis Stack 7.4.",
        field="collection.index",
        index=collection.index,
        vector_type=collection.vector_type,
    )
