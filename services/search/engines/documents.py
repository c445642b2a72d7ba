"""Documents as Redis keeps them: a hash each, and the sorted set of their ids."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from services.search.engines import scripts
from services.search.engines.catalog import Record, Records, changing
from services.search.engines.connection import Client, asking
from services.search.filters import Place, Value
from services.search.types import Document

_SAMPLE = 20
_DELETED_AT_ONCE = 500
_READ_AT_ONCE = 500
_TRIES = 20


class Documents:
    """Reads documents by id, lists and counts them."""

    def __init__(self, redis: Client, records: Records) -> None:
        self._redis = redis
        self._records = records
        self._delete = redis.register_script(scripts.DELETE)

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

    async def ids(self, record: Record, after: str, count: int) -> list[str]:
        """Return ids in their order, after one."""
        key, start = self._records.keys(record).ids, f"({after}" if after else "-"
        async with asking():
            found = await self._redis.zrangebylex(key, start, "+", start=0, num=count)
        return [key.decode() for key in found]

    async def sample(self, record: Record, count: int, seed: int) -> list[str]:
        """Return ids chosen at random, all if there are no more."""
        key = self._records.keys(record).ids
        async with asking():
            total = await self._redis.zcard(key)
        ranks = random.Random(seed).sample(range(total), min(count, total))  # noqa: S311
        found: list[bytes] = []
        for first in range(0, len(ranks), _READ_AT_ONCE):
            async with asking(), self._redis.pipeline(transaction=False) as pipe:
                for rank in ranks[first : first + _READ_AT_ONCE]:
                    pipe.zrange(key, rank, rank)
                for reply in await pipe.execute():
                    found += reply
        return [one.decode() for one in found]

    async def count(self, record: Record) -> int:
        """Return the number of documents that have not expired."""
        keys = self._records.keys(record)
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.ids)
            pipe.zcount(keys.expiries, "-inf", int(time.time() * 1000))
            total, expired = await pipe.execute()
        return int(total) - int(expired)

    async def delete(self, name: str, ids: Sequence[str], until: str) -> int:
        """Delete documents that end by a time in ms, or ``all``; return how many there were."""
        deleted = 0
        for first in range(0, len(ids), _DELETED_AT_ONCE):
            deleted += await self._delete_few(name, ids[first : first + _DELETED_AT_ONCE], until)
        return deleted

    async def delete_expired(self, record: Record) -> None:
        """Delete documents whose end has come."""
        now, expiries = int(time.time() * 1000), self._records.keys(record).expiries
        async with asking():
            found = await self._redis.zrangebyscore(expiries, "-inf", now)
        await self.delete(record.collection.name, [key.decode() for key in found], str(now))

    async def _delete_few(self, name: str, ids: Sequence[str], until: str) -> int:
        for _ in range(_TRIES):
            record = await self._records.get(name)
            keys = self._records.keys(record)
            async with asking():
                deleted = await self._delete(
                    keys=keys.script(ids), args=[record.version, until, keys.term, *ids]
                )
            if deleted != b"stale":
                return int(deleted)
            await self._records.read(name)
        raise changing(name)

    async def memory(self, record: Record) -> int:
        """Return about how many bytes the documents take, by a sample of them."""
        keys = self._records.keys(record)
        ids = await self.ids(record, "", _SAMPLE)
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.ids)
            for key in ids:
                pipe.memory_usage(keys.document(key))
            total, *sizes = await pipe.execute()
        return int(sum(size or 0 for size in sizes) / max(1, len(sizes)) * total)


def dump_fields(fields: dict[str, Value]) -> bytes:
    """Return fields as they are stored."""
    plain = {
        name: asdict(value) if isinstance(value, Place) else value for name, value in fields.items()
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def load_fields(data: bytes | None) -> dict[str, Value]:
    """Return stored fields as they came."""
    fields: dict[str, Value] = {}
    for name, value in json.loads(data or b"{}").items():
        if isinstance(value, list):
            fields[name] = tuple(value)
        else:
            fields[name] = Place(**value) if isinstance(value, dict) else value
    return fields


def expiry(document: Document) -> int:
    """Return when a document ends, in ms since 1970; 0 for never."""
    return int((time.time() + document.ttl) * 1000) if document.ttl else 0


def _document(key: str, values: Sequence[bytes | None], ttl: int) -> Document | None:
    vector, fields, text, payload = values
    if vector is None:
        return None
    return Document(
        id=key,
        vector=np.frombuffer(vector, "<f4"),
        fields=load_fields(fields),
        text=(text or b"").decode(),
        payload=payload or b"",
        ttl=ttl / 1000 if ttl > 0 else 0.0,
    )
