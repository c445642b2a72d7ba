"""Documents and searches on Redis 8 vector sets (VADD, VSIM).

A document is a hash with its vector as it came; the vector set holds the lifted vector and the
attributes to filter by. Both change in one script. Commands:
https://redis.io/docs/latest/develop/data-types/vector-sets/
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from services.search import lifts
from services.search.engines import expressions, scripts
from services.search.engines.connection import Client, asking
from services.search.engines.records import Index, Record, Records, contended
from services.search.filters import Condition, Place, Value
from services.search.schema import Document, Vector

_QUANTIZATION = {"none": "NOQUANT", "q8": "Q8", "binary": "BIN"}
# A flat index is always scanned whole, so its graph is kept as thin as it can be.
_FLAT_M, _FLAT_EF = 2, 2
_TRIES = 20
_BATCH = 500
_LEASE_SECONDS = 60


class VectorSets:
    """Writes and reads documents of collections that are vector sets."""

    def __init__(self, redis: Client, records: Records) -> None:
        self._redis = redis
        self._records = records
        self._upsert = redis.register_script(scripts.UPSERT)
        self._delete = redis.register_script(scripts.DELETE)
        self._copy = redis.register_script(scripts.COPY)

    async def upsert(self, name: str, documents: Sequence[Document]) -> tuple[int, int]:
        """Write documents, all or nothing; return how many were new and how many replaced."""
        vectors = np.stack([document.vector for document in documents])
        expiring = any(document.ttl for document in documents)
        for _ in range(_TRIES):
            record = await self._prepared(name, vectors, expiring=expiring)
            args = self._arguments(record, documents, vectors)
            keys = self._records.keys(record).script(one.id for one in documents)
            async with asking():
                created = await self._upsert(keys=keys, args=args)
            if created != b"stale":
                return int(created), len(documents) - int(created)
            await self._records.read(name)
        raise contended(name)

    async def get(self, record: Record, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id; None for what is not there."""
        keys = self._records.keys(record)
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for key in ids:
                pipe.hmget(keys.document(key), ["v", "f", "t", "p"])
                pipe.pttl(keys.document(key))
            replies = await pipe.execute()
        return [
            _document(key, values, ttl)
            for key, values, ttl in zip(ids, replies[::2], replies[1::2], strict=True)
        ]

    async def delete(self, name: str, ids: Sequence[str], *, expired_at: int | None = None) -> int:
        """Delete documents by id; return how many. ``expired_at`` (ms) spares what ends later."""
        deleted = 0
        for first in range(0, len(ids), _BATCH):
            deleted += await self._delete_batch(name, ids[first : first + _BATCH], expired_at)
        return deleted

    async def sweep(self, name: str) -> int:
        """Delete what has expired; return how many documents that was."""
        now = int(time.time() * 1000)
        key = self._records.keys(await self._records.get(name)).expiries
        async with asking():
            found = await self._redis.zrangebyscore(key, "-inf", now, start=0, num=_BATCH)
        return await self.delete(name, [key.decode() for key in found], expired_at=now)

    async def count(self, record: Record) -> int:
        """Return the number of documents that have not expired."""
        keys = self._records.keys(record)
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.ids)
            pipe.zcount(keys.expiries, "-inf", int(time.time() * 1000))
            total, expired = await pipe.execute()
        return int(total) - int(expired)

    async def memory(self, record: Record) -> int:
        """Return about how many bytes a collection takes: its index, and a sample of documents."""
        keys = self._records.keys(record)
        async with asking():
            index = await self._redis.memory_usage(keys.vectors) or 0
            sample = [key.decode() for key in await self._redis.zrange(keys.ids, 0, 19)]
            sizes = [await self._redis.memory_usage(keys.document(key)) or 0 for key in sample]
            total = await self._redis.zcard(keys.ids)
        return int(index + (sum(sizes) / len(sizes) * total if sizes else 0))

    async def ids(self, record: Record, after: str, count: int) -> list[str]:
        """Return ids in their order, after one."""
        key, start = self._records.keys(record).ids, f"({after}" if after else "-"
        async with asking():
            found = await self._redis.zrangebylex(key, start, "+", start=0, num=count)
        return [key.decode() for key in found]

    async def matching(self, record: Record, condition: Condition | None) -> list[str]:
        """Return the ids of all documents that meet a condition, in their order."""
        declared = list(record.collection.fields)
        compiled = expressions.compile_filter(condition, declared) if condition else ""
        expression = living(record, compiled) or expressions.TRUE
        keys = self._records.keys(record)
        direction = np.zeros(record.collection.dimensions, np.float32)
        direction[0] = 1.0  # any will do: every element is looked at
        asked = record.index.lift(record.collection.metric).asked(direction)
        async with asking():
            total = max(1, await self._redis.zcard(keys.ids))
            found = await self._redis.execute_command(
                "VSIM", keys.vectors, "FP32", asked.astype("<f4").tobytes(), "COUNT", total,
                "FILTER", expression, "TRUTH", "NOTHREAD",
            )  # fmt: skip
        return sorted(key.decode() for key in found)

    async def _delete_batch(self, name: str, ids: Sequence[str], expired_at: int | None) -> int:
        until = "all" if expired_at is None else str(expired_at)
        for _ in range(_TRIES):
            record = await self._records.get(name)
            keys = self._records.keys(record).script(ids)
            async with asking():
                deleted = await self._delete(keys=keys, args=[record.version, until, *ids])
            if deleted != b"stale":
                return int(deleted)
            await self._records.read(name)
        raise contended(name)

    async def _prepared(self, name: str, vectors: Vector, *, expiring: bool) -> Record:
        """Return a record whose index can hold the vectors; change it first if it cannot."""
        for _ in range(_TRIES):
            record = await self._records.get(name)
            needed = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
            changed: Record | None
            if record.collection.metric != "cosine" and not record.index.max_norm:
                index = Index(record.index.generation, *lifts.measure(vectors))
                changed = await self._records.change(record, index=index)
            elif needed > record.index.lift(record.collection.metric).max_norm:
                changed = await self._rebuild(record, vectors)
            elif expiring and not record.expiring:
                changed = await self._records.change(record, expiring=True)
            else:
                return record
            if changed is None:
                await self._records.read(name)
        raise contended(name)

    async def _rebuild(self, record: Record, vectors: Vector) -> Record | None:
        """Build an index for longer vectors beside the old one, which answers meanwhile; then swap.

        One rebuilds, by a lease; others wait. A rebuild that died is begun anew.
        """
        name, lease = record.collection.name, self._records.keys(record).lease
        async with asking():
            mine = await self._redis.set(lease, b"1", nx=True, ex=_LEASE_SECONDS)
        if not mine:
            await asyncio.sleep(0.1)
            return None
        try:
            record = await self._records.read(name)
            longest, _ = lifts.measure(vectors)
            # At least HEADROOM longer each time, so that rebuilds stay rare.
            longest = max(longest, lifts.HEADROOM * record.index.max_norm)
            building = Index(record.newest.generation + 1, longest, record.index.scale)
            started = await self._records.change(record, building=building)
            if started is None:
                return None
            if record.building:
                await self._redis.unlink(self._records.keys(record).generation(record.building))
            return await self._fill(started)
        finally:
            async with asking():
                await self._redis.delete(lease)

    async def _fill(self, record: Record) -> Record | None:
        keys = self._records.keys(record)
        async for documents in self._stored(record):
            vectors = np.stack([document.vector for document in documents])
            lifted = record.newest.lift(record.collection.metric).stored(vectors)
            args: list[Any] = [record.version, *_options(record)]
            for document, row in zip(documents, lifted, strict=True):
                args += [document.id, document.vector.tobytes(), row.astype("<f4").tobytes()]
                args.append(_attributes(record, document))
            async with asking():
                script = keys.script(document.id for document in documents)
                if await self._copy(keys=script, args=args) == b"stale":
                    return None
        swapped = await self._records.change(record, index=record.newest, building=None)
        if swapped is not None:
            async with asking():
                await self._redis.unlink(keys.vectors)
        return swapped

    async def _stored(self, record: Record) -> AsyncIterator[list[Document]]:
        after = ""
        while ids := await self.ids(record, after, _BATCH):
            after = ids[-1]
            async with asking():
                await self._redis.expire(self._records.keys(record).lease, _LEASE_SECONDS)
            documents = [document for document in await self.get(record, ids) if document]
            if documents:
                yield documents

    def _arguments(
        self, record: Record, documents: Sequence[Document], vectors: Vector
    ) -> list[Any]:
        metric = record.collection.metric
        lifted = record.index.lift(metric).stored(vectors)
        other = record.building.lift(metric).stored(vectors) if record.building else None
        args: list[Any] = [record.version, *_options(record)]
        for number, document in enumerate(documents):
            args += [
                document.id,
                lifted[number].astype("<f4").tobytes(),
                b"" if other is None else other[number].astype("<f4").tobytes(),
                _attributes(record, document),
                _expiry(document),
                document.vector.astype("<f4").tobytes(),
                dump_fields(document.fields),
                document.text,
                document.payload,
            ]
        return args


def _options(record: Record) -> list[Any]:
    collection = record.collection
    flat = collection.index == "flat"
    return [
        _QUANTIZATION[collection.quantization],
        _FLAT_EF if flat else collection.ef_construction,
        _FLAT_M if flat else collection.m,
    ]


def _attributes(record: Record, document: Document) -> str:
    declared = list(record.collection.fields)
    return expressions.attributes(document.fields, declared, _expiry(document))


def _expiry(document: Document) -> int:
    return int((time.time() + document.ttl) * 1000) if document.ttl else 0


def living(record: Record, expression: str) -> str:
    """Return the expression with the condition that a document has not expired, where some can."""
    if not record.expiring:
        return expression
    alive = f"(.e == 0 or .e > {int(time.time() * 1000)})"
    return f"{alive} and {expression}" if expression else alive


def dump_fields(fields: dict[str, Value]) -> bytes:
    """Return fields as they are stored."""
    plain = {
        name: asdict(value) if isinstance(value, Place) else value for name, value in fields.items()
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def load_fields(data: bytes) -> dict[str, Value]:
    """Return stored fields as they came."""
    fields: dict[str, Value] = {}
    for name, value in json.loads(data).items():
        if isinstance(value, list):
            fields[name] = tuple(value)
        else:
            fields[name] = Place(**value) if isinstance(value, dict) else value
    return fields


def _document(key: str, values: Sequence[bytes | None], ttl: int) -> Document | None:
    vector, fields, text, payload = values
    if vector is None:
        return None
    return Document(
        id=key,
        vector=np.frombuffer(vector, "<f4"),
        fields=load_fields(fields or b"{}"),
        text=(text or b"").decode(),
        payload=payload or b"",
        ttl=ttl / 1000 if ttl > 0 else 0.0,
    )
