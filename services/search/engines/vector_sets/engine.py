"""The engine over Redis 8 vector sets (VADD, VSIM).

A document is a hash with its original vector. The vector set holds the transformed vector and the
attributes to filter by. One script writes both. Commands:
https://redis.io/docs/latest/develop/data-types/vector-sets/
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from services.search.engines import scripts
from services.search.engines.batches import BatchWriter
from services.search.engines.catalog import Catalog, collection_changing
from services.search.engines.connection import Client
from services.search.engines.documents import DocumentStore, dump_fields, expires_at_ms
from services.search.engines.engine import FieldsWrite, IndexStatus
from services.search.engines.index_engine import IndexEngine
from services.search.engines.keys import Keys
from services.search.engines.reanalysis import analysis_warnings
from services.search.engines.record import Index, Record
from services.search.engines.redis_errors import redis_errors
from services.search.engines.reindex import Reindexer
from services.search.engines.vector_sets.filter import dump_attributes
from services.search.engines.vector_sets.search import VectorSetSearch
from services.search.text_analysis import stems
from services.search.types import Collection, Document, Vector

_QUANTIZATION = {"none": "NOQUANT", "q8": "Q8", "binary": "BIN"}
# A search of a flat index always scans it, so its graph is as thin as VADD allows.
_FLAT_M, _FLAT_EF = 4, 4
# Batches are small, because Redis answers no other client while a script runs.
_UPDATE_BATCH = 64
# Number of texts whose average length is used to rank texts.
_MEASURED_TEXTS = 64


class VectorSetEngine(IndexEngine):
    """Writes, finds and deletes documents of collections that are vector sets."""

    def __init__(self, redis: Client, catalog: Catalog, documents: DocumentStore) -> None:
        self._search = VectorSetSearch(redis, catalog)
        reindexer = Reindexer(redis, catalog, documents, self)
        batches = BatchWriter(redis, catalog, self)
        super().__init__(catalog, documents, reindexer, self._search, batches)
        self._redis = redis
        self._upsert = redis.register_script(scripts.UPSERT)
        self._upsert_pending = redis.register_script(scripts.UPSERT_PENDING)
        self._update_fields = redis.register_script(scripts.UPDATE_FIELDS)
        self.copy = redis.register_script(scripts.COPY)

    def allow_background_search(self, allowed: bool) -> None:
        """Set whether Redis can run searches on background threads."""
        self._search.background = allowed

    async def create(self, record: Record) -> None:
        """Do nothing: the first VADD creates the vector set."""

    async def drop(self, record: Record) -> None:
        """Do nothing: the catalog removes the vector set."""

    async def prepare(self, collection: Collection, documents: Sequence[Document]) -> Record:
        """Return a record whose index can store the documents."""
        is_measured = (await self._catalog.get(collection.name)).average_length
        sample = [] if is_measured or not collection.index_text else documents[:_MEASURED_TEXTS]
        record = await self._reindexer.prepare_write(
            collection.name,
            np.stack([document.vector for document in documents]),
            [stems(document.text) for document in sample],
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
        stemmed = [stems(one.text) if collection.index_text else [] for one in documents]

        async def write(_: Record) -> list[bool] | None:
            record = await self.prepare(collection, documents)
            keys = self._catalog.keys(record)
            arguments = [*_upsert_options(record, keys), batch]
            arguments += _upsert_arguments(record, documents, stemmed)
            async with redis_errors():
                created = await script(
                    keys=keys.script_keys(one.id for one in documents), args=arguments
                )
            return None if created == scripts.STALE else [bool(one) for one in created]

        return await self._catalog.attempt(collection.name, write)

    async def write_fields(self, record: Record, writes: Sequence[FieldsWrite]) -> str:
        """Replace the fields of all documents or of none; return the outcome."""
        arguments: list[Any] = [record.version]
        for write in writes:
            document = replace(write.document, fields=write.fields)
            arguments += [document.id, dump_fields(write.document.fields)]
            arguments += [dump_fields(document.fields), _attributes(record, document)]
        async with redis_errors():
            outcome = await self._update_fields(
                keys=self._catalog.keys(record).script_keys(one.document.id for one in writes),
                args=arguments,
            )
        return str(outcome.decode())

    async def add_fields(self, record: Record) -> None:
        """Mark the new fields as missing in the attributes of every element."""
        after = ""
        while ids := await self._documents.list_ids(record, after, _UPDATE_BATCH):
            after = ids[-1]
            outcome = "changed"
            while outcome != "updated":
                documents = [one for one in await self._documents.get(record, ids) if one]
                if not documents:
                    break
                writes = [FieldsWrite(document, document.fields) for document in documents]
                outcome = await self.write_fields(record, writes)
                if outcome == "stale":
                    raise collection_changing(record.collection.name)

    async def indexed_count(self, record: Record) -> int:
        """Return how many elements the newest vector set has."""
        key = self._catalog.keys(record).newest_vectors
        async with redis_errors():
            return int(await self._redis.execute_command("VCARD", key))

    async def status(self, record: Record) -> IndexStatus:
        """Return the memory of the vector set, and the largest norm that it can store."""
        async with redis_errors():
            memory = await self._redis.memory_usage(self._catalog.keys(record).vectors) or 0
        warnings = analysis_warnings(record)
        return IndexStatus(memory, record.index.max_norm, warnings=warnings)

    async def create_index(self, record: Record, index: Index) -> None:
        """Do nothing: the first VADD creates the vector set."""

    def needs_copy(self, record: Record) -> bool:
        """Return True: a vector set has its own copy of the vectors."""
        return True

    async def is_complete(self, record: Record, index: Index) -> bool:
        """Return True: a vector set contains an element as soon as VADD returns."""
        return True

    async def drop_index(self, record: Record, index: Index) -> None:
        """Remove a vector set."""
        async with redis_errors():
            await self._redis.unlink(self._catalog.keys(record).vector_set(index))

    def copy_arguments(
        self, record: Record, documents: Sequence[Document], transformed: Vector
    ) -> list[Any]:
        """Return the arguments of the COPY script."""
        arguments: list[Any] = [record.version, *_vadd_options(record.newest_collection)]
        for document, row in zip(documents, transformed, strict=True):
            arguments += [document.id, row.tobytes(), _attributes(record, document)]
        return arguments


def _upsert_options(record: Record, keys: Keys) -> list[Any]:
    """Return the arguments of the UPSERT script before the batch."""
    options = _vadd_options(record.collection) + _vadd_options(record.newest_collection)
    return [record.version, *options, keys.term_prefix, record.average_length or 1.0]


def _upsert_arguments(
    record: Record,
    documents: Sequence[Document],
    stemmed: Sequence[Sequence[str]],
) -> list[Any]:
    """Return the arguments of the UPSERT script after the batch."""
    vectors = np.stack([document.vector for document in documents])
    transformed = record.transform.transform(vectors)
    newest = record.newest_transform.transform(vectors) if record.building else None
    arguments: list[Any] = []
    for number, document in enumerate(documents):
        arguments += [
            document.id,
            transformed[number].tobytes(),
            b"" if newest is None else newest[number].tobytes(),
            _attributes(record, document),
            expires_at_ms(document),
            document.vector.tobytes(),
            dump_fields(document.fields),
            document.text,
            document.payload,
            " ".join(stemmed[number]),
        ]
    return arguments


def _vadd_options(collection: Collection) -> list[Any]:
    is_flat = collection.index == "flat"
    return [
        _QUANTIZATION[collection.quantization],
        _FLAT_EF if is_flat else collection.ef_construction,
        _FLAT_M if is_flat else collection.m,
        collection.reduced_dimensions,
    ]


def _attributes(record: Record, document: Document) -> str:
    declared = record.newest_collection.fields
    return dump_attributes(document.fields, declared, expires_at_ms(document))
