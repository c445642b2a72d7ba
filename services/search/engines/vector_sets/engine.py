"""The engine over Redis 8 vector sets (VADD, VSIM).

A document is a hash with its vector as it came; the vector set holds the lifted vector and the
attributes to filter by. Both change in one script. Commands:
https://redis.io/docs/latest/develop/data-types/vector-sets/
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from services.search.engines import scripts
from services.search.engines.catalog import Index, Keys, Record, Records, changing
from services.search.engines.connection import Client, asking
from services.search.engines.documents import Documents, dump_fields, expiry
from services.search.engines.engine import Change, Size
from services.search.engines.reindex import Rebuilds
from services.search.engines.vector_sets import filter
from services.search.engines.vector_sets.search import VectorSearch
from services.search.filters import Condition
from services.search.text_analysis import stems
from services.search.types import Collection, Document, Query, Result, Vector

_QUANTIZATION = {"none": "NOQUANT", "q8": "Q8", "binary": "BIN"}
# A flat index is always scanned whole, so its graph is kept as thin as it can be.
_FLAT_M, _FLAT_EF = 4, 4
_TRIES = 20
# Few at a time: Redis answers nobody else while a script runs.
_BATCH = 64


class VectorSets:
    """Writes, finds and deletes documents of collections that are vector sets."""

    def __init__(self, redis: Client, records: Records, documents: Documents) -> None:
        self._redis = redis
        self._records = records
        self._documents = documents
        self._rebuilds = Rebuilds(redis, records, documents, self)
        self._searches = VectorSearch(redis, records, documents, self.matching)
        self._upsert = redis.register_script(scripts.UPSERT)
        self._update = redis.register_script(scripts.UPDATE_FIELDS)
        self.copy = redis.register_script(scripts.COPY)

    def search_in_background(self, background: bool) -> None:
        """Say whether Redis may search on threads of its own."""
        self._searches.background = background

    async def upsert(self, collection: Collection, documents: Sequence[Document]) -> list[bool]:
        """Write documents, all or nothing; return for each whether it is new."""
        vectors = np.stack([document.vector for document in documents])
        expiring = any(document.ttl for document in documents)
        stemmed = [stems(one.text) if collection.index_text else [] for one in documents]
        for _ in range(_TRIES):
            record = await self._rebuilds.fit(collection.name, vectors, stemmed, expiring=expiring)
            if record.collection != collection:
                break
            keys = self._records.keys(record)
            async with asking():
                created = await self._upsert(
                    keys=keys.script(one.id for one in documents),
                    args=_written(record, keys, documents, vectors, stemmed),
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
        for _ in range(_TRIES):
            record = await self._records.get(name)
            keys = self._records.keys(record)
            async with asking():
                total = await self._redis.zcard(keys.ids)
            words = self._searches.scan(record, condition, max(1, total))
            async with asking(), self._redis.pipeline(transaction=False) as pipe:
                pipe.execute_command(*words)
                pipe.hget(keys.record, "version")
                found, version = await pipe.execute()
            if version == b"%d" % record.version:
                return sorted(key.decode() for key in found)
            await self._records.read(name)
        raise changing(name)

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries, in order."""
        return await self._searches.search(queries)

    async def size(self, record: Record) -> Size:
        """Return what the index takes, and the longest vector it holds."""
        async with asking():
            memory = await self._redis.memory_usage(self._records.keys(record).vectors) or 0
        return Size(memory, record.index.max_norm)

    async def maintain(self, name: str) -> None:
        """Delete what has expired; end a rebuild that was cut short."""
        record = await self._records.read(name)
        await self._rebuilds.resume(record)
        await self._documents.delete_expired(record)

    async def prepare(self, record: Record) -> None:
        """A vector set begins with its first element."""

    async def dismantle(self, record: Record) -> None:
        """All there is goes with the record."""

    async def start(self, record: Record, index: Index) -> None:
        """A vector set begins with its first element."""

    async def add_fields(self, record: Record) -> None:
        """Give every element the attributes that say that it has no value of the new fields."""
        after = ""
        while ids := await self._documents.ids(record, after, _BATCH):
            after, left = ids[-1], ids
            while left:
                documents = [one for one in await self._documents.get(record, left) if one]
                changes = [Change(document, document.fields) for document in documents]
                if not changes:
                    break
                done = await self.write_fields(record, changes)
                if done == "stale":
                    raise changing(record.collection.name)
                left = [] if done == "updated" else left

    async def reindex(self, name: str, target: Collection) -> None:
        """Build another vector set and let it answer, once it is complete."""
        await self._rebuilds.reindex(name, target)

    async def indexed(self, record: Record) -> int:
        """Return how many elements the newest set has."""
        async with asking():
            return int(
                await self._redis.execute_command("VCARD", self._records.keys(record).newest)
            )

    async def write_fields(self, record: Record, changes: Sequence[Change]) -> str:
        """Change the fields of documents, all or nothing; return what became of it."""
        args: list[Any] = [record.version]
        for change in changes:
            document = replace(change.document, fields=change.fields)
            args += [document.id, dump_fields(change.document.fields)]
            args += [dump_fields(document.fields), _attributes(record.built, document)]
        async with asking():
            done = await self._update(
                keys=self._records.keys(record).script(one.document.id for one in changes),
                args=args,
            )
        return str(done.decode())

    def has_form(self, record: Record) -> bool:
        """Every vector set has the vectors in its own form."""
        return True

    async def is_complete(self, record: Record, index: Index) -> bool:
        """A vector set holds what was added."""
        return True

    async def drop(self, record: Record, index: Index) -> None:
        """Drop a vector set."""
        async with asking():
            await self._redis.unlink(self._records.keys(record).generation(index))

    def copied(self, record: Record, documents: Sequence[Document], lifted: Vector) -> list[Any]:
        """Return the arguments of the COPY script."""
        args: list[Any] = [record.version, *_options(record.built)]
        for document, row in zip(documents, lifted, strict=True):
            args += [document.id, row.tobytes(), _attributes(record.built, document)]
        return args


def _written(
    record: Record,
    keys: Keys,
    documents: Sequence[Document],
    vectors: Vector,
    stemmed: Sequence[Sequence[str]],
) -> list[Any]:
    """Return the arguments of the UPSERT script."""
    lifted = record.index.lift(record.collection.lifted).stored(vectors)
    other = None
    if record.building:
        other = record.building.lift(record.built.lifted).stored(vectors)
    args: list[Any] = [record.version, *_options(record.collection), *_options(record.built)]
    args += [keys.term, record.average_length or 1.0]
    for number, document in enumerate(documents):
        args += [
            document.id,
            lifted[number].tobytes(),
            b"" if other is None else other[number].tobytes(),
            _attributes(record.built, document),
            expiry(document),
            document.vector.tobytes(),
            dump_fields(document.fields),
            document.text,
            document.payload,
            " ".join(stemmed[number]),
        ]
    return args


def _options(collection: Collection) -> list[Any]:
    flat = collection.index == "flat"
    return [
        _QUANTIZATION[collection.quantization],
        _FLAT_EF if flat else collection.ef_construction,
        _FLAT_M if flat else collection.m,
        collection.reduced,
    ]


def _attributes(collection: Collection, document: Document) -> str:
    return filter.attributes(document.fields, collection.fields, expiry(document))
