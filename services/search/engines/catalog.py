"""What Redis knows of collections: one versioned record each, cached here, checked with every use.

Keys of collection ``c``, all in one hash slot, ``b`` being the time of its birth, so that nothing
of an earlier collection of the same name is ever mistaken for its own:

- ``{c}:record``               hash: version, record as JSON
- ``{c}:lease``                who rebuilds the index
- ``{c}:<b>:ids``              sorted set of the ids of the documents
- ``{c}:<b>:expiries``         sorted set of ids by the time of their end, in ms
- ``{c}:<b>:vectors:<n>``      vector set, n-th generation
- ``{c}:<b>:index:<n>``        index of the Query Engine over the documents, n-th generation
- ``{c}:<b>:document:<id>``    hash: v vector, f fields, t text, p payload, s stems of the text,
                                and what the Query Engine reads (see ``query_dialect``)
- ``{c}:<b>:term:<stem>``       sorted set of ids by the weight of the stem in their texts
- ``{c}:<b>:scratch``           a sum of those while a query by words runs

``{a}:record`` of an alias ``a`` has ``alias``, the name of the collection, instead of a record.
``collections`` is the sorted set of their names (a cluster has three), ``aliases`` a hash of those
by alias, ``dropped`` a hash of the records of deleted ones whose keys are still to be removed.
"""

import contextlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from redis import exceptions
from redis.asyncio import RedisCluster

from services.errors import Aborted, AlreadyExists, NotFound, Unavailable
from services.search import metric_transforms
from services.search.engines import scripts
from services.search.engines.connection import Client, asking
from services.search.metric_transforms import Lift
from services.search.types import Collection

_REMOVED_AT_ONCE = 500
# Hash tags of slots in the three thirds of a cluster: the names outlive a node.
_COPIES = ("{a}", "{b}", "{c}")
_SHARDS_ASKED = 8
_ESCAPED = re.compile(r"\\[\\0]")


@dataclass(frozen=True)
class Index:
    """One generation of a collection's vector set; 0 lengths until vectors are known."""

    generation: int = 1
    max_norm: float = 0.0
    scale: float = 0.0

    def lift(self, metric: str) -> Lift:
        """Return the lift of what it stores."""
        return metric_transforms.lift(metric, self.max_norm, self.scale)


@dataclass(frozen=True)
class Record:
    """A collection as it is kept.

    Attributes:
        building: the index that is being built, if any.
        target: the collection as it will be once that answers; None if it stays as it is.
        expiring: some documents have an end.
        average_length: stems in a text, of the first texts that came; 0 before.
    """

    collection: Collection
    born: int = 0
    version: int = 0
    index: Index = Index()
    building: Index | None = None
    target: Collection | None = None
    expiring: bool = False
    average_length: float = 0.0

    @property
    def age(self) -> float:
        """Seconds since it was created."""
        return (time.time_ns() - self.born) / 1e9

    @property
    def newest(self) -> Index:
        """The index being built, if any, else the one that answers."""
        return self.building or self.index

    @property
    def built(self) -> Collection:
        """The collection that the newest index is for."""
        return self.target or self.collection


class Keys:
    """The names of a collection's keys."""

    def __init__(self, prefix: str, record: Record) -> None:
        root = f"{prefix}search:{{{record.collection.name}}}:"
        self._own = f"{root}{record.born}:"
        self._documents = f"{self._own}document:"
        self.record = root + "record"
        self.lease = root + "lease"
        self.ids = self._own + "ids"
        self.expiries = self._own + "expiries"
        self.term = self._own + "term:"
        self.scratch = self._own + "scratch"
        self.vectors = self.generation(record.index)
        self.newest = self.generation(record.newest)

    def document(self, key: str) -> str:
        """Return the key of a document; the Query Engine reads none beyond a NUL."""
        return self._documents + key.replace("\\", "\\\\").replace("\0", "\\0")

    def id_of(self, document: bytes) -> str:
        """Return the id of the document that lies at a key."""
        escaped = document.decode()[len(self._documents) :]
        return _ESCAPED.sub(lambda found: "\\" if found[0] == "\\\\" else "\0", escaped)

    def generation(self, index: Index) -> str:
        """Return the key of a vector set."""
        return f"{self._own}vectors:{index.generation}"

    def index(self, index: Index) -> str:
        """Return the name of an index of the Query Engine."""
        return f"{self._own}index:{index.generation}"

    def script(self, ids: Iterable[str]) -> list[str]:
        """Return the keys that the scripts are given."""
        documents = map(self.document, ids)
        return [self.record, self.ids, self.expiries, self.vectors, self.newest, *documents]


class Records:
    """Reads, caches and replaces the records of collections."""

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        copies = _COPIES if isinstance(redis, RedisCluster) else ("",)
        self._names = [f"{prefix}search:collections{copy}" for copy in copies]
        self._dropped = f"{prefix}search:dropped"
        self._cached: dict[str, Record] = {}
        self._replace = redis.register_script(scripts.REPLACE_RECORD)
        self._delete = redis.register_script(scripts.DELETE_RECORD)

    def keys(self, record: Record) -> Keys:
        """Return the keys of a collection."""
        return Keys(self._prefix, record)

    async def get(self, name: str) -> Record:
        """Return a record, cached: who uses it checks its version in Redis. Raises NotFound."""
        return self._cached.get(name) or await self.read(name)

    async def read(self, name: str) -> Record:
        """Read a record from Redis, by name or alias. Raises NotFound if there is none."""
        key = self.keys(Record(Collection(name, 1))).record
        try:
            async with asking():
                version, text, alias = await self._redis.hmget(key, ["version", "record", "alias"])
        except Unavailable as away:
            return await self._by_a_shard(name, away)
        if alias:
            return await self.read(alias.decode())
        if version is None or text is None:
            self._cached.pop(name, None)
            raise NotFound(
                "COLLECTION_NOT_FOUND",
                "There is no such collection: create it first.",
                field="collection",
                collection=name,
            )
        self._cached[name] = record = _load(text, int(version))
        return record

    async def create(self, collection: Collection, *, listed: bool = True) -> Record:
        """Write the record of a new collection, and its name. Raises AlreadyExists."""
        now = time.time_ns()
        record = Record(collection, born=now, version=now)
        if not await self._write(record, ""):
            raise AlreadyExists(
                "COLLECTION_EXISTS",
                "There is a collection or an alias of this name.",
                field="collection.name",
                collection=collection.name,
            )
        if listed:
            await self._on_each(lambda key: self._redis.zadd(key, {collection.name: 0}))
        return record

    async def change(self, record: Record, **changes: object) -> Record | None:
        """Replace a record if it is still the one in Redis; return the new one, or None."""
        fresh = replace(record, version=record.version + 1, **changes)  # type: ignore[arg-type]
        done = await self._write(fresh, str(record.version))
        return fresh if done else None

    async def delete(self, record: Record) -> bool:
        """Delete a collection, unless its record has changed: then return False.

        The record goes first, so that nothing more is written; what is left of a deletion that was
        cut short, ``remove_dropped`` ends.
        """
        name, note = record.collection.name, f"{record.collection.name}:{record.born}"
        async with asking():
            await self._redis.hset(self._dropped, note, _dump(record))
            deleted = await self._delete(keys=[self.keys(record).record], args=[record.version])
            if deleted == b"stale":
                await self._redis.hdel(self._dropped, note)
                return False
        await self._on_each(lambda key: self._redis.zrem(key, name))
        self._cached.pop(name, None)
        await self._remove(record, note)
        return True

    async def remove_dropped(self) -> None:
        """Remove what deleted collections have left."""
        async with asking():
            dropped = await self._redis.hgetall(self._dropped)
        for note, text in dropped.items():
            record = _load(text, 0)
            async with asking():
                born = await self._redis.hget(self.keys(record).record, "record")
            if not born or json.loads(born)["born"] != record.born:
                await self._remove(record, note)

    async def names(self, after: str, count: int) -> list[str]:
        """Return names of collections in their order, after one."""
        start = f"({after}" if after else "-"
        found = await self._on_each(
            lambda key: self._redis.zrangebylex(key, start, "+", start=0, num=count)
        )
        return sorted({name.decode() for names in found for name in names})[:count]

    async def _on_each(self, work: Callable[[str], Awaitable[Any]]) -> list[Any]:
        """Do work on every copy of the names; one that answers is enough."""
        done, away = [], None
        for key in self._names:
            try:
                async with asking():
                    done.append(await work(key))
            except Unavailable as failure:
                away = failure
        if away and not done:
            raise away
        return done

    async def _by_a_shard(self, name: str, away: Unavailable) -> Record:
        """Return a record that cannot be reached as a shard of it has it."""
        for number in range(_SHARDS_ASKED if len(self._names) > 1 and "#" not in name else 0):
            try:
                shard = await self.read(f"{name}#{number:03}")
            except NotFound:
                break
            except Unavailable:
                continue
            return Record(replace(shard.collection, name=name))
        raise away

    async def _remove(self, record: Record, note: str | bytes) -> None:
        keys = self.keys(record)
        if record.collection.engine == "query_engine":
            for index in {record.index, record.newest}:
                async with asking():
                    with contextlib.suppress(exceptions.ResponseError):  # there is none
                        await self._redis.execute_command("FT.DROPINDEX", keys.index(index))
        while True:
            async with asking():
                ids = await self._redis.zrange(keys.ids, 0, _REMOVED_AT_ONCE - 1)
                if not ids:
                    break
                await self._redis.unlink(*await self._all_of(keys, ids))
                await self._redis.zrem(keys.ids, *ids)
        async with asking():
            await self._redis.unlink(keys.ids, keys.expiries, keys.vectors, keys.newest)
            await self._redis.hdel(self._dropped, note)

    async def _all_of(self, keys: Keys, ids: Iterable[bytes]) -> list[str]:
        """Return the keys of documents, and of the stems in them."""
        documents = [keys.document(key.decode()) for key in ids]
        async with self._redis.pipeline(transaction=False) as pipe:
            for document in documents:
                pipe.hget(document, "s")
            texts = await pipe.execute()
        stems = {stem.decode() for text in texts if text for stem in text.split()}
        return documents + [keys.term + stem for stem in sorted(stems)]

    async def _write(self, record: Record, expected: str) -> bool:
        key = self.keys(record).record
        async with asking():
            done = await self._replace(keys=[key], args=[expected, record.version, _dump(record)])
        if done:
            self._cached[record.collection.name] = record
        return bool(done)


def _dump(record: Record) -> str:
    return json.dumps(asdict(record), separators=(",", ":"))


def _load(text: bytes, version: int) -> Record:
    data = json.loads(text)
    building, target = data["building"], data.get("target")
    return Record(
        collection=Collection(**data["collection"]),
        born=data["born"],
        version=version,
        index=Index(**data["index"]),
        building=Index(**building) if building else None,
        target=Collection(**target) if target else None,
        expiring=data["expiring"],
        average_length=data.get("average_length", 0.0),
    )


def changing(name: str) -> Aborted:
    """Return the failure of what others have overtaken."""
    return Aborted(
        "COLLECTION_CHANGING",
        "The collection is being changed by others: try again.",
        retry_after=0.5,
        collection=name,
    )
