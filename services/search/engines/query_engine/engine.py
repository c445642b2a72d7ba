"""The engine over the Redis Query Engine (FT.CREATE, FT.SEARCH).

A document is a hash with its original vector and the data that the index reads: the fields to
filter by, the stems to rank texts by and, if the index encodes vectors differently, the encoded
vector as ``i<n>``.
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
from services.search.engines.batches import BatchWriter
from services.search.engines.catalog import Catalog, collection_changing
from services.search.engines.connection import Client
from services.search.engines.documents import DocumentStore, dump_fields, expires_at_ms
from services.search.engines.engine import FieldsWrite, IndexStatus
from services.search.engines.index_engine import IndexEngine
from services.search.engines.query_engine.command import read_pairs
from services.search.engines.query_engine.filter import (
    dump_hash_fields,
    hash_field_types,
    schema,
)
from services.search.engines.query_engine.search import QueryEngineSearch
from services.search.engines.query_engine.vectors import (
    DOCUMENT_FIELD,
    encode,
    encode_documents,
    vector_field,
    vector_schema,
)
from services.search.engines.reanalysis import analysis_warnings
from services.search.engines.record import Index, Record
from services.search.engines.redis_errors import redis_errors
from services.search.engines.reindex import Reindexer
from services.search.text_analysis import stems
from services.search.types import Collection, Document, Vector

_DELETE_BATCH = 500


class QueryEngine(IndexEngine):
    """Writes, finds and deletes documents of collections that are indexes of the Query Engine."""

    def __init__(self, redis: Client, catalog: Catalog, documents: DocumentStore) -> None:
        search = QueryEngineSearch(redis, catalog, documents)
        reindexer = Reindexer(redis, catalog, documents, self)
        batches = BatchWriter(redis, catalog, self)
        super().__init__(catalog, documents, reindexer, search, batches)
        self._redis = redis
        self._upsert = redis.register_script(scripts.UPSERT_HASHES)
        self._upsert_pending = redis.register_script(scripts.UPSERT_PENDING_HASHES)
        self._update_hashes = redis.register_script(scripts.UPDATE_HASHES)
        self.copy = redis.register_script(scripts.COPY_HASHES)

    async def create(self, record: Record) -> None:
        """Create the index of a new collection."""
        await self.create_index(record, record.index)

    async def drop(self, record: Record) -> None:
        """Do nothing: the catalog drops the indexes."""

    async def prepare(self, collection: Collection, documents: Sequence[Document]) -> Record:
        """Return a record whose index can store the documents."""
        record = await self._reindexer.prepare_write(
            collection.name,
            np.stack([document.vector for document in documents]),
            [],
            expiring=any(document.ttl for document in documents),
        )
        if record.collection != collection:
            raise collection_changing(collection.name)
        return record

    async def write_documents(
        self, collection: Collection, documents: Sequence[Document], batch: str
    ) -> list[bool]:
        """Write documents in one script."""
        script = self._upsert_pending if batch else self._upsert

        async def write(_: Record) -> list[bool] | None:
            record = await self.prepare(collection, documents)
            async with redis_errors():
                created = await script(
                    keys=self._catalog.keys(record).script_keys(one.id for one in documents),
                    args=[record.version, batch, *_upsert_arguments(record, documents)],
                )
            return None if created == scripts.STALE else [bool(one) for one in created]

        return await self._catalog.attempt(collection.name, write)

    async def write_fields(self, record: Record, writes: Sequence[FieldsWrite]) -> str:
        """Replace the fields of all documents or of none; return the outcome."""
        declared = record.newest_collection.fields
        names = [
            name
            for number, field_type in enumerate(declared.values())
            for name in hash_field_types(number, field_type)[::2]
        ]
        arguments: list[Any] = [record.version, len(names), *names]
        for write in writes:
            pairs = ["f", dump_fields(write.fields).decode()]
            # Without ``e``, the first pair: the expiry does not change.
            pairs += dump_hash_fields(write.fields, declared, 0)[2:]
            arguments += [dump_fields(write.document.fields), json.dumps(pairs, ensure_ascii=False)]
        async with redis_errors():
            outcome = await self._update_hashes(
                keys=self._catalog.keys(record).script_keys(one.document.id for one in writes),
                args=arguments,
            )
        return str(outcome.decode())

    async def add_fields(self, record: Record) -> None:
        """Declare the fields that the target has in addition; no document has a value yet."""
        index_text = record.collection.index_text
        known = schema(record.collection.fields, index_text=index_text)
        added = schema(record.newest_collection.fields, index_text=index_text)[len(known) :]
        index = self._catalog.keys(record).search_index(record.index)
        for name, index_type in zip(added[::2], added[1::2], strict=True):
            async with redis_errors():
                try:
                    await self._redis.execute_command(
                        "FT.ALTER", index, "SCHEMA", "ADD", name, index_type
                    )
                except exceptions.ResponseError as error:
                    if "Duplicate field" not in str(error):
                        raise

    async def indexed_count(self, record: Record) -> int:
        """Return how many documents the newest index contains."""
        return int((await self._info(record, record.newest_index)).get("num_docs", 0))

    async def status(self, record: Record) -> IndexStatus:
        """Return the memory and completeness of the index, and the largest norm it can store."""
        info = await self._info(record, record.index)
        memory = float(info.get("total_index_memory_sz_mb", 0)) * 2**20
        failures = int(info.get("hash_indexing_failures", 0))
        warnings = [f"The index is missing {failures} documents."] if failures else []
        warnings += analysis_warnings(record)
        return IndexStatus(int(memory), record.index.max_norm, is_index_complete(info), warnings)

    async def create_index(self, record: Record, index: Index) -> None:
        """Create an index of the newest collection, unless it exists."""
        keys, collection = self._catalog.keys(record), record.newest_collection
        command: list[Any] = ["FT.CREATE", keys.search_index(index), "ON", "HASH"]
        command += ["PREFIX", 1, keys.document_prefix, "STOPWORDS", 0, "SCHEMA"]
        command += schema(collection.fields, index_text=collection.index_text)
        command += vector_schema(collection, index)
        async with redis_errors():
            try:
                await self._redis.execute_command(*command)
            except exceptions.ResponseError as error:
                if "already exists" in str(error).lower():
                    return
                if "Bad arguments" in str(error):
                    raise _index_not_supported(collection) from error
                raise

    def needs_copy(self, record: Record) -> bool:
        """Return whether the newest index reads a separate hash field."""
        field = vector_field(record.newest_collection, record.newest_index)
        return field != DOCUMENT_FIELD

    async def is_complete(self, record: Record, index: Index) -> bool:
        """Return whether an index contains every document."""
        return is_index_complete(await self._info(record, index))

    async def drop_index(self, record: Record, index: Index) -> None:
        """Drop an index and the hash field of vectors that only this index reads."""
        keys = self._catalog.keys(record)
        async with redis_errors():
            with contextlib.suppress(exceptions.ResponseError):  # there is no such index
                await self._redis.execute_command("FT.DROPINDEX", keys.search_index(index))
        is_current = index == record.index
        field = vector_field(record.collection if is_current else record.newest_collection, index)
        after = ""
        while field != DOCUMENT_FIELD and (
            ids := await self._documents.list_ids(record, after, _DELETE_BATCH)
        ):
            after = ids[-1]
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for document_id in ids:
                    pipe.hdel(keys.document(document_id), field)
                await pipe.execute()

    def copy_arguments(
        self, record: Record, documents: Sequence[Document], transformed: Vector
    ) -> list[Any]:
        """Return the arguments of the COPY_HASHES script."""
        collection = record.newest_collection
        arguments: list[Any] = [record.version, vector_field(collection, record.newest_index)]
        for document, row in zip(documents, encode(transformed, collection), strict=True):
            arguments += [document.id, row]
        return arguments

    async def _info(self, record: Record, index: Index) -> dict[str, Any]:
        name = self._catalog.keys(record).search_index(index)
        async with redis_errors():
            return read_pairs(await self._redis.execute_command("FT.INFO", name))


def _upsert_arguments(record: Record, documents: Sequence[Document]) -> list[Any]:
    """Return the arguments of the UPSERT_HASHES script after the batch."""
    collection, newest = record.collection, record.newest_collection
    vectors = np.stack([document.vector for document in documents])
    encoded: dict[str, list[bytes]] = {}
    for one, index in ((collection, record.index), (newest, record.newest_index)):
        field = vector_field(one, index)
        if field != DOCUMENT_FIELD and field not in encoded:
            encoded[field] = encode_documents(one, index, vectors)
    arguments: list[Any] = []
    for number, document in enumerate(documents):
        expires_at = expires_at_ms(document)
        pairs = [DOCUMENT_FIELD, document.vector.tobytes(), "f", dump_fields(document.fields)]
        pairs += ["t", document.text, "p", document.payload]
        pairs += dump_hash_fields(document.fields, newest.fields, expires_at)
        if collection.index_text:
            pairs += ["s", " ".join(stems(document.text))]
        for name, rows in encoded.items():
            pairs += [name, rows[number]]
        arguments += [document.id, expires_at, len(pairs), *pairs]
    return arguments


def is_index_complete(info: dict[str, Any]) -> bool:
    """Return whether a reply of FT.INFO describes an index that contains every document."""
    return float(info.get("percent_indexed", 0)) >= 1 and not int(info.get("indexing", 0))


def _index_not_supported(collection: Collection) -> FailedPrecondition:
    return FailedPrecondition(
        "INDEX_NOT_SUPPORTED",
        "The Query Engine of this server does not support the index: SVS-VAMANA needs Redis 8.2,"
        " INT8 needs Redis 8.0, FLOAT16 and BFLOAT16 need Redis Stack 7.4.",
        field="collection.index",
        index=collection.index,
        vector_type=collection.vector_type,
    )
