"""The engine over the Query Engine (FT.CREATE, FT.SEARCH).

A document is a hash with its vector as it came, and what the index reads: fields to filter by,
stems to rank words by, and, where the index keeps another form of the vector, that form as
``i<n>``.
Commands: https://redis.io/docs/latest/commands/ft.search/
"""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from redis import exceptions

from services.errors import FailedPrecondition
from services.search.engines import scripts
from services.search.engines.catalog import Index, Record, Records, changing
from services.search.engines.connection import Client, asking
from services.search.engines.documents import Documents, dump_fields, expiry
from services.search.engines.engine import Change, Size
from services.search.engines.query_engine import filter
from services.search.engines.query_engine import vectors as query_engine_vectors
from services.search.engines.query_engine.search import QuerySearch, pairs
from services.search.engines.reindex import Rebuilds
from services.search.filters import Condition
from services.search.text_analysis import stems
from services.search.types import Collection, Document, Query, Result, Vector

_TRIES = 20
_BATCH = 500


class QueryEngine:
    """Writes, finds and deletes documents of collections that are indexes of the Query Engine."""

    def __init__(self, redis: Client, records: Records, documents: Documents) -> None:
        self._redis = redis
        self._records = records
        self._documents = documents
        self._rebuilds = Rebuilds(redis, records, documents, self)
        self._searches = QuerySearch(redis, records, documents)
        self._upsert = redis.register_script(scripts.UPSERT_HASHES)
        self._update = redis.register_script(scripts.UPDATE_HASHES)
        self.copy = redis.register_script(scripts.COPY_HASHES)

    async def prepare(self, record: Record) -> None:
        """Create the index of a new collection."""
        await self.start(record, record.index)

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write documents, all or nothing; return for each whether it is new."""
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
                return [bool(one) for one in created]
            await self._records.read(collection.name)
        raise changing(collection.name)

    async def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete documents by id; return how many there were."""
        return await self._documents.delete(name, ids, "all")

    async def matching(self, name: str, condition: Condition | None) -> list[str]:
        """Return the ids of all documents that meet a condition, in their order."""
        return await self._searches.matching(name, condition)

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries, in order, in one trip unless a filter takes more."""
        return await self._searches.search(queries)

    async def size(self, record: Record) -> Size:
        """Return what the index takes, whether it is complete, and the longest vector it holds."""
        info = await self._info(record, record.index)
        memory = float(info.get("total_index_memory_sz_mb", 0)) * 2**20
        failures = int(info.get("hash_indexing_failures", 0))
        warnings = [f"{failures} documents could not be indexed."] if failures else []
        return Size(int(memory), record.index.max_norm, info_is_complete(info), warnings)

    async def maintain(self, name: str) -> None:
        """Delete what has expired; end a rebuild that was cut short."""
        record = await self._records.read(name)
        await self._rebuilds.resume(record)
        await self._documents.delete_expired(record)

    async def dismantle(self, record: Record) -> None:
        """All there is goes with the record."""

    async def start(self, record: Record, index: Index) -> None:
        """Create an index of a generation, unless it is there."""
        keys, collection = self._records.keys(record), record.built
        words = ["FT.CREATE", keys.index(index), "ON", "HASH", "PREFIX", 1, keys.document("")]
        words += ["STOPWORDS", 0, "SCHEMA"]
        words += filter.attributes(collection.fields, words=collection.index_text)
        async with asking():
            try:
                await self._redis.execute_command(
                    *words, *query_engine_vectors.schema(collection, index)
                )
            except exceptions.ResponseError as error:
                if "already exists" in str(error).lower():
                    return
                if "Bad arguments" in str(error):
                    raise _unknown_index(collection) from error
                raise

    async def add_fields(self, record: Record) -> None:
        """Declare the fields that the target has more; no document has a value of them yet."""
        collection, words = record.collection, record.collection.index_text
        known = len(filter.attributes(collection.fields, words=words))
        added = filter.attributes(record.built.fields, words=words)[known:]
        for name, kind in zip(added[::2], added[1::2], strict=True):
            async with asking():
                try:
                    index = self._records.keys(record).index(record.index)
                    await self._redis.execute_command(
                        "FT.ALTER", index, "SCHEMA", "ADD", name, kind
                    )
                except exceptions.ResponseError as error:
                    if "Duplicate field" not in str(error):
                        raise

    async def reindex(self, name: str, target: Collection) -> None:
        """Build another index and let it answer, once it is complete."""
        await self._rebuilds.reindex(name, target)

    async def indexed(self, record: Record) -> int:
        """Return how many documents the newest index holds."""
        return int((await self._info(record, record.newest)).get("num_docs", 0))

    async def write_fields(self, record: Record, changes: Sequence[Change]) -> str:
        """Change the fields of documents, all or nothing; return what became of it."""
        declared = record.built.fields
        names = filter.attributes(declared, words=False)[4::2]
        args: list[Any] = [record.version, len(names), *names]
        for change in changes:
            pairs = ["f", dump_fields(change.fields).decode()]
            pairs += filter.hash_fields(change.fields, declared, 0)[2:]
            args += [dump_fields(change.document.fields), json.dumps(pairs, ensure_ascii=False)]
        async with asking():
            done = await self._update(
                keys=self._records.keys(record).script(one.document.id for one in changes),
                args=args,
            )
        return str(done.decode())

    def has_form(self, record: Record) -> bool:
        """Say whether the new index reads a hash field of its own."""
        return query_engine_vectors.field(record.built, record.newest) != "v"

    async def is_complete(self, record: Record, index: Index) -> bool:
        """Say whether an index holds every document."""
        return info_is_complete(await self._info(record, index))

    async def drop(self, record: Record, index: Index) -> None:
        """Drop an index, and the form of the vectors that it alone has read."""
        async with asking():
            with contextlib.suppress(exceptions.ResponseError):  # there is none
                name = self._records.keys(record).index(index)
                await self._redis.execute_command("FT.DROPINDEX", name)
        collection = record.collection if index == record.index else record.built
        form, keys, after = (
            query_engine_vectors.field(collection, index),
            self._records.keys(record),
            "",
        )
        while form != "v" and (ids := await self._documents.ids(record, after, _BATCH)):
            after = ids[-1]
            async with asking(), self._redis.pipeline(transaction=False) as pipe:
                for key in ids:
                    pipe.hdel(keys.document(key), form)
                await pipe.execute()

    def copied(self, record: Record, documents: Sequence[Document], lifted: Vector) -> list[Any]:
        """Return the arguments of the COPY_HASHES script."""
        args: list[Any] = [record.version, query_engine_vectors.field(record.built, record.newest)]
        for document, row in zip(
            documents, query_engine_vectors.typed(lifted, record.built), strict=True
        ):
            args += [document.id, row]
        return args

    async def _info(self, record: Record, index: Index) -> dict[str, Any]:
        async with asking():
            reply = await self._redis.execute_command(
                "FT.INFO", self._records.keys(record).index(index)
            )
        return pairs(reply)


def _written(record: Record, documents: Sequence[Document], vectors: Vector) -> list[Any]:
    """Return the arguments of the UPSERT_HASHES script."""
    collection, built = record.collection, record.built
    rows = {
        query_engine_vectors.field(form, index): query_engine_vectors.stored(form, index, vectors)
        for form, index in ((collection, record.index), (built, record.newest))
        if query_engine_vectors.field(form, index) != "v"
    }
    args: list[Any] = [record.version]
    for number, document in enumerate(documents):
        ends = expiry(document)
        pairs = ["v", document.vector.tobytes(), "f", dump_fields(document.fields)]
        pairs += ["t", document.text, "p", document.payload]
        pairs += filter.hash_fields(document.fields, built.fields, ends)
        if collection.index_text:
            pairs += ["s", " ".join(stems(document.text))]
        for name, row in rows.items():
            pairs += [name, row[number]]
        args += [document.id, ends, len(pairs), *pairs]
    return args


def info_is_complete(info: dict[str, Any]) -> bool:
    """Say whether FT.INFO tells of an index that holds every document."""
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
