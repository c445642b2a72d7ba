"""The catalog of collections in Redis: one versioned record each.

Records are cached here. A cached record can be out of date, so every use checks its version in
Redis, in the same round trip. ``keys`` describes the keys of one collection; the catalog itself has

- ``collections``  sorted set: names of all collections (three copies on a cluster)
- ``dropped``      hash: records of deleted collections whose keys are still to be removed
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from redis import exceptions
from redis.asyncio import RedisCluster

from services.errors import Aborted, AlreadyExists, NotFound, Unavailable
from services.search.engines import scripts
from services.search.engines.connection import Client
from services.search.engines.keys import Keys, record_key
from services.search.engines.record import Record, dump_record, load_record
from services.search.engines.redis_errors import redis_errors
from services.search.types import Collection

T = TypeVar("T")

_MAX_ATTEMPTS = 20
_PURGE_BATCH = 500
# Hash tags of slots in three different thirds of a cluster: the names survive the loss of a node.
_CLUSTER_COPIES = ("{a}", "{b}", "{c}")
_MAX_SHARDS_TRIED = 8


class Catalog:
    """Reads, caches and updates the records of collections."""

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        copies = _CLUSTER_COPIES if isinstance(redis, RedisCluster) else ("",)
        self._names = [f"{prefix}search:collections{copy}" for copy in copies]
        self._deleted = f"{prefix}search:dropped"
        self._cached: dict[str, Record] = {}
        self._replace_record = redis.register_script(scripts.REPLACE_RECORD)
        self._delete_record = redis.register_script(scripts.DELETE_RECORD)

    def keys(self, record: Record) -> Keys:
        """Return the keys of a collection."""
        return Keys(self._prefix, record)

    async def get(self, name: str) -> Record:
        """Return a record, from the cache if it has one. Raises NotFound.

        The caller must check the version of the record in Redis.
        """
        return self._cached.get(name) or await self.read(name)

    async def read(self, name: str) -> Record:
        """Read a record from Redis, by name or alias. Raises NotFound."""
        try:
            async with redis_errors():
                version, text, alias = await self._redis.hmget(
                    record_key(self._prefix, name), ["version", "record", "alias"]
                )
        except Unavailable as failure:
            return await self._read_from_shard(name, failure)
        if alias:
            return await self.read(alias.decode())
        if version is None or text is None:
            self._cached.pop(name, None)
            raise NotFound(
                "COLLECTION_NOT_FOUND",
                "There is no such collection; create it first.",
                field="collection",
                collection=name,
            )
        self._cached[name] = record = load_record(text, int(version))
        return record

    async def read_many(self, names: Sequence[str]) -> list[Record]:
        """Read the records of those collections that exist, in one round trip."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(record_key(self._prefix, name), ["version", "record"])
            replies = await pipe.execute()
        return [load_record(text, int(version)) for version, text in replies if version and text]

    async def attempt(self, name: str, operation: Callable[[Record], Awaitable[T | None]]) -> T:
        """Run an operation on a collection; repeat it while the record turns out to be stale.

        Args:
            name: the collection.
            operation: takes the record, and returns None if Redis has another version of it.

        Raises:
            Aborted: the record kept changing.
        """
        for _ in range(_MAX_ATTEMPTS):
            outcome = await operation(await self.get(name))
            if outcome is not None:
                return outcome
            await self.read(name)
        raise collection_changing(name)

    async def create(self, collection: Collection, *, listed: bool = True) -> Record:
        """Create the record of a new collection, and list its name. Raises AlreadyExists."""
        now = time.time_ns()
        record = Record(collection, created_ns=now, version=now)
        if not await self._replace(record, expected_version=""):
            raise AlreadyExists(
                "COLLECTION_EXISTS",
                "A collection or an alias already has this name.",
                field="collection.name",
                collection=collection.name,
            )
        if listed:
            await self._on_each_copy(lambda key: self._redis.zadd(key, {collection.name: 0}))
        return record

    async def update(self, record: Record, **changes: object) -> Record | None:
        """Replace a record; return the new one, or None if it has changed in Redis."""
        updated = replace(record, version=record.version + 1, **changes)  # type: ignore[arg-type]
        replaced = await self._replace(updated, expected_version=str(record.version))
        return updated if replaced else None

    async def delete(self, record: Record) -> bool:
        """Delete a collection unless its record has changed; return whether it was deleted.

        The record is deleted first, which stops all writes. If this process dies, ``purge_deleted``
        removes the rest.
        """
        name, entry = record.collection.name, f"{record.collection.name}:{record.created_ns}"
        async with redis_errors():
            await self._redis.hset(self._deleted, entry, dump_record(record))
            key = record_key(self._prefix, name)
            deleted = await self._delete_record(keys=[key], args=[record.version])
            if deleted == scripts.STALE:
                await self._redis.hdel(self._deleted, entry)
                return False
        await self._on_each_copy(lambda key: self._redis.zrem(key, name))
        self._cached.pop(name, None)
        await self._purge(record, entry)
        return True

    async def purge_deleted(self) -> None:
        """Remove the keys of deleted collections whose deletion was interrupted."""
        async with redis_errors():
            deleted = await self._redis.hgetall(self._deleted)
        for entry, text in deleted.items():
            record = load_record(text, 0)
            key = record_key(self._prefix, record.collection.name)
            async with redis_errors():
                current = await self._redis.hget(key, "record")
            if not current or load_record(current, 0).created_ns != record.created_ns:
                await self._purge(record, entry)

    async def list_names(self, after: str, count: int) -> list[str]:
        """Return up to ``count`` sorted names of collections that follow ``after``."""
        start = f"({after}" if after else "-"
        copies = await self._on_each_copy(
            lambda key: self._redis.zrangebylex(key, start, "+", start=0, num=count)
        )
        return sorted({name.decode() for names in copies for name in names})[:count]

    async def _on_each_copy(self, operation: Callable[[str], Awaitable[Any]]) -> list[Any]:
        """Run an operation on every copy of the names; succeed if one copy answers."""
        results, last_failure = [], None
        for key in self._names:
            try:
                async with redis_errors():
                    results.append(await operation(key))
            except Unavailable as failure:
                last_failure = failure
        if last_failure and not results:
            raise last_failure
        return results

    async def _read_from_shard(self, name: str, failure: Unavailable) -> Record:
        """Return the record of an unreachable collection from one of its shards."""
        can_have_shards = len(self._names) > 1 and "#" not in name
        for number in range(_MAX_SHARDS_TRIED if can_have_shards else 0):
            try:
                shard = await self.read(f"{name}#{number:03}")
            except NotFound:
                break
            except Unavailable:
                continue
            return Record(replace(shard.collection, name=name))
        raise failure

    async def _purge(self, record: Record, entry: str | bytes) -> None:
        """Remove the indexes and documents of a deleted collection, then its entry."""
        keys = self.keys(record)
        if record.collection.engine == "query_engine":
            for index in {record.index, record.newest_index}:
                async with redis_errors():
                    with contextlib.suppress(exceptions.ResponseError):  # there is no such index
                        await self._redis.execute_command("FT.DROPINDEX", keys.search_index(index))
        while True:
            async with redis_errors():
                ids = await self._redis.zrange(keys.ids, 0, _PURGE_BATCH - 1)
                if not ids:
                    break
                await self._redis.unlink(*await self._document_keys(keys, ids))
                await self._redis.zrem(keys.ids, *ids)
        async with redis_errors():
            for batch in await self._redis.zrange(keys.batches, 0, -1):
                ids = await self._redis.zrange(keys.batch(batch.decode()), 0, -1)
                for document_id in ids:
                    await self._redis.unlink(keys.staged(batch.decode(), document_id.decode()))
                await self._redis.unlink(keys.batch(batch.decode()))
            await self._redis.unlink(keys.batches, keys.pending)
            await self._redis.unlink(keys.ids, keys.expiries, keys.vectors, keys.newest_vectors)
            await self._redis.hdel(self._deleted, entry)

    async def _document_keys(self, keys: Keys, ids: Iterable[bytes]) -> list[str]:
        """Return the keys of documents and of the stems in them."""
        documents = [keys.document(document_id.decode()) for document_id in ids]
        async with self._redis.pipeline(transaction=False) as pipe:
            for document in documents:
                pipe.hget(document, "s")
            texts = await pipe.execute()
        stems = {stem.decode() for text in texts if text for stem in text.split()}
        return documents + [keys.term_prefix + stem for stem in sorted(stems)]

    async def _replace(self, record: Record, *, expected_version: str) -> bool:
        key = record_key(self._prefix, record.collection.name)
        async with redis_errors():
            replaced = await self._replace_record(
                keys=[key], args=[expected_version, record.version, dump_record(record)]
            )
        if replaced:
            self._cached[record.collection.name] = record
        return bool(replaced)


def collection_changing(name: str) -> Aborted:
    """Return the failure of an operation whose collection has changed."""
    return Aborted(
        "COLLECTION_CHANGING",
        "The collection is being updated by another request; try again.",
        retry_after=0.5,
        collection=name,
    )
