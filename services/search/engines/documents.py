"""Documents in Redis: a hash for each, and the sorted set of their ids."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from services.errors import NotFound
from services.search.engines import scripts
from services.search.engines.catalog import Catalog
from services.search.engines.connection import Client
from services.search.engines.record import Record
from services.search.engines.redis_errors import redis_errors
from services.search.filters import GeoPoint, Value
from services.search.types import Document

_MEMORY_SAMPLE = 20
# Deleting this many documents keeps Redis busy for a few milliseconds.
_DELETE_BATCH = 32
_READ_BATCH = 500


class DocumentStore:
    """Reads, lists, counts and deletes documents."""

    def __init__(self, redis: Client, catalog: Catalog) -> None:
        self._redis = redis
        self._catalog = catalog
        self._delete = redis.register_script(scripts.DELETE)
        self._write_stems = redis.register_script(scripts.WRITE_STEMS)

    async def get(self, record: Record, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id; None for each that does not exist."""
        keys = self._catalog.keys(record)
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for document_id in ids:
                pipe.hmget(keys.document(document_id), ["v", "f", "t", "p"])
                pipe.pttl(keys.document(document_id))
            replies = await pipe.execute()
        return [
            load_document(document_id, parts, ttl_ms)
            for document_id, parts, ttl_ms in zip(ids, replies[::2], replies[1::2], strict=True)
        ]

    async def list_ids(self, record: Record, after: str, count: int) -> list[str]:
        """Return up to ``count`` sorted ids that follow ``after``."""
        key, start = self._catalog.keys(record).ids, f"({after}" if after else "-"
        async with redis_errors():
            found = await self._redis.zrangebylex(key, start, "+", start=0, num=count)
        return [document_id.decode() for document_id in found]

    async def sample_ids(self, record: Record, count: int, seed: int) -> list[str]:
        """Return up to ``count`` random ids."""
        key = self._catalog.keys(record).ids
        async with redis_errors():
            total = await self._redis.zcard(key)
        ranks = random.Random(seed).sample(range(total), min(count, total))  # noqa: S311
        found: list[bytes] = []
        for first in range(0, len(ranks), _READ_BATCH):
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for rank in ranks[first : first + _READ_BATCH]:
                    pipe.zrange(key, rank, rank)
                for reply in await pipe.execute():
                    found += reply
        return [document_id.decode() for document_id in found]

    async def count(self, record: Record) -> int:
        """Return the number of documents that have not expired."""
        keys = self._catalog.keys(record)
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.ids)
            pipe.zcount(keys.expiries, "-inf", _now_ms())
            total, expired = await pipe.execute()
        return int(total) - int(expired)

    async def sizes(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Return the documents of each collection and their estimated bytes, in two round trips.

        The estimate comes from a sample of the documents.
        """
        all_keys = [self._catalog.keys(record) for record in records]
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for keys in all_keys:
                pipe.zcard(keys.ids)
                pipe.zcount(keys.expiries, "-inf", _now_ms())
                pipe.zrange(keys.ids, 0, _MEMORY_SAMPLE - 1)
            replies = await pipe.execute()
        samples = replies[2::3]
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for keys, ids in zip(all_keys, samples, strict=True):
                for document_id in ids:
                    pipe.memory_usage(keys.document(document_id.decode()))
            usages = iter(await pipe.execute())
        sizes = []
        for total, expired, ids in zip(replies[::3], replies[1::3], samples, strict=True):
            sampled = sum(next(usages) or 0 for _ in ids)
            sizes.append((int(total) - int(expired), int(sampled / max(1, len(ids)) * total)))
        return sizes

    async def delete(self, name: str, ids: Sequence[str], expired_at: str = "all") -> int:
        """Delete documents by id; return how many there were.

        Args:
            name: the collection.
            ids: the ids of the documents.
            expired_at: ms since 1970; documents that have not expired by then stay. ``all``
                deletes every document.
        """
        deleted = 0
        for first in range(0, len(ids), _DELETE_BATCH):
            deleted += await self._delete_batch(
                name, ids[first : first + _DELETE_BATCH], expired_at
            )
        return deleted

    async def write_stems(
        self, record: Record, documents: Sequence[Document], stemmed: Sequence[Sequence[str]]
    ) -> bool:
        """Replace the stems of those documents that still have the same text.

        Return False if the record has changed.
        """
        keys = self._catalog.keys(record)
        is_ranked_by_redis = record.collection.engine == "query_engine"
        prefix = "" if is_ranked_by_redis else keys.term_prefix
        arguments = [record.version, prefix, record.average_length or 1.0]
        for document, stems in zip(documents, stemmed, strict=True):
            arguments += [document.id, document.text, " ".join(stems)]
        async with redis_errors():
            outcome = await self._write_stems(
                keys=keys.script_keys(one.id for one in documents), args=arguments
            )
        return bool(outcome != scripts.STALE)

    async def delete_expired(self, record: Record) -> None:
        """Delete the documents that have expired."""
        now, expiries = _now_ms(), self._catalog.keys(record).expiries
        found: list[bytes] | None = None
        while found is None or len(found) == _READ_BATCH:
            async with redis_errors():
                found = await self._redis.zrangebyscore(
                    expiries, "-inf", now, start=0, num=_READ_BATCH
                )
            ids = [document_id.decode() for document_id in found]
            await self.delete(record.collection.name, ids, str(now))

    async def _delete_batch(self, name: str, ids: Sequence[str], expired_at: str) -> int:
        async def delete(record: Record) -> int | None:
            keys = self._catalog.keys(record)
            async with redis_errors():
                deleted = await self._delete(
                    keys=keys.script_keys(ids),
                    args=[record.version, expired_at, keys.term_prefix, *ids],
                )
            return None if deleted == scripts.STALE else int(deleted)

        return await self._catalog.attempt(name, delete)


def dump_fields(fields: dict[str, Value]) -> bytes:
    """Encode fields as JSON."""
    plain = {
        name: asdict(value) if isinstance(value, GeoPoint) else value
        for name, value in fields.items()
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def load_fields(data: bytes | None) -> dict[str, Value]:
    """Decode fields from JSON."""
    fields: dict[str, Value] = {}
    for name, value in json.loads(data or b"{}").items():
        if isinstance(value, list):
            fields[name] = tuple(value)
        else:
            fields[name] = GeoPoint(**value) if isinstance(value, dict) else value
    return fields


def expires_at_ms(document: Document) -> int:
    """Return when a document that is written now expires, in ms since 1970; 0 for never."""
    return int((time.time() + document.ttl) * 1000) if document.ttl else 0


def query_document_not_found(document_id: str) -> NotFound:
    """Return the failure of a query by a document that does not exist."""
    return NotFound(
        "DOCUMENT_NOT_FOUND",
        "The document to search by does not exist.",
        field="document_id",
        id=document_id,
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


def load_document(document_id: str, parts: Sequence[bytes | None], ttl_ms: int) -> Document | None:
    """Decode the hash fields v, f, t and p of a document; None if it does not exist."""
    vector, fields, text, payload = parts
    if vector is None:
        return None
    return Document(
        id=document_id,
        vector=np.frombuffer(vector, "<f4"),
        fields=load_fields(fields),
        text=(text or b"").decode(),
        payload=payload or b"",
        ttl=ttl_ms / 1000 if ttl_ms > 0 else 0.0,
    )
