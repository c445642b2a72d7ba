"""Data in Redis that an earlier version of memetwin has written, which had no tenants of documents.

``tests/old_data.json`` holds it. Its authors wrote it with the code of that version::

    PYTHONPATH=EARLIER_CHECKOUT:EARLIER_CHECKOUT/protos/gen python tests/old_data.py REDIS_URL

Redis' strings are bytes. In JSON they are text of the same code points (Latin-1).
"""

import asyncio
import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
DOCUMENTS = {
    "notes": ["a.md", "b/c:d.md", "{x}", "ünï cödé", "a#b", "document:notes:a.md"],
    "A-b_c.9": ["a.md"],
    "twins": ["x"],
}
TWINS = ["fox", "{/fox}", "a:b", "}", "twins", "ünï"]
TENANTS = ["", "acme"]


def load(redis: Any, prefix: str) -> dict[str, Any]:
    """Write the earlier version's keys under a prefix; return them by their names without it."""
    rows: dict[str, Any] = json.loads(FILE.read_text())
    for name, (kind, value, ttl) in rows.items():
        key = prefix.encode() + _raw(name)
        _write(redis, key, kind, value)
        if ttl:
            redis.pexpire(key, ttl)
    return rows


def dump(redis: Any, prefix: str) -> dict[str, Any]:
    """Return all keys under a prefix by their names without it: type, value and time to live."""
    rows = {}
    for key in sorted(redis.scan_iter(f"{prefix}*", count=1000)):
        kind = redis.type(key).decode()
        name = _text(key.removeprefix(prefix.encode()))
        rows[name] = [kind, _read(redis, key, kind), max(redis.pttl(key), 0)]
    return rows


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _raw(value: str) -> bytes:
    return value.encode("latin-1")


def _read(redis: Any, key: bytes, kind: str) -> Any:
    if kind == "string":
        return _text(redis.get(key))
    if kind == "hash":
        return {_text(name): _text(value) for name, value in sorted(redis.hgetall(key).items())}
    if kind == "set":
        return sorted(map(_text, redis.smembers(key)))
    if kind == "zset":
        return [[_text(one), score] for one, score in redis.zrange(key, 0, -1, withscores=True)]
    assert kind == "stream"
    return [
        [_text(one), {_text(name): _text(value) for name, value in fields.items()}]
        for one, fields in redis.xrange(key)
    ]


def _write(redis: Any, key: bytes, kind: str, value: Any) -> None:
    if kind == "string":
        redis.set(key, _raw(value))
    elif kind == "hash":
        redis.hset(key, mapping={_raw(name): _raw(one) for name, one in value.items()})
    elif kind == "set":
        redis.sadd(key, *map(_raw, value))
    elif kind == "zset":
        redis.zadd(key, {_raw(one): score for one, score in value})
    else:
        for stream_id, fields in value:
            redis.xadd(key, {_raw(name): _raw(one) for name, one in fields.items()}, id=stream_id)


def _of(module: str, name: str) -> Any:
    """Return a part of the earlier version, whose types are not those of this one."""
    return getattr(import_module(f"services.gateway.{module}"), name)


async def _write_documents(redis: Any, prefix: str) -> None:
    store = _of("rag.ingest.store", "DocumentStore")(redis, prefix)
    stored = _of("rag.ingest.types", "StoredDocument")
    for collection, keys in DOCUMENTS.items():
        for key in keys:
            chunks = [f"{key}#0", f"{key}#1"]
            lease = await store.acquire(collection, key, chunks)
            document = stored(key, f"Title of {key}", "v1", f"Text of {key}. ü", 2, "text/plain")
            await store.put(lease, asdict(document), chunks)
    await store.delete(await store.acquire("notes", "a#b", []))
    await store.acquire("notes", "unfinished", ["unfinished#0"])  # and then the writer died
    await store.set_copy("notes", "reembedded-0123456789ab-notes")
    legacy = {"id": "old.md", "title": "Old", "version": "v0", "text": "Its record has the text."}
    record = json.dumps(legacy | {"chunks": 1, "media_type": "text/plain"})
    await redis.set(f"{prefix}gateway:document:notes:old.md", record)
    await redis.zadd(f"{prefix}gateway:documents:notes", {"old.md": 0})
    calibrations = _of("rag.store", "CalibrationStore")(redis, prefix, store)
    await calibrations.put("notes", "digest", {"min_score": 0.5, "slope": 9.0, "middle": 0.4})


async def _write_twins(redis: Any, prefix: str) -> None:
    store, twin = _of("twins.store", "TwinStore")(redis, prefix), _of("twins.types", "Twin")
    for key in TWINS:
        record = asdict(twin(key, f"Title of {key}", ["tag"], "image/png", "digest", "model"))
        await store.put(key, record, b"\x89PNG" + key.encode(), ["twins-model-ip", "twin-titles-m"])
    await redis.delete(f"{prefix}gateway:twin-collections:a:b")  # as the first version wrote it


async def _write_cache(redis: Any, prefix: str) -> None:
    scope_of, entry_of = _of("cache.types", "Scope"), _of("cache.types", "Entry")
    scopes = _of("cache.scopes", "Scopes")(redis, prefix)
    store = _of("cache.store", "CacheStore")(redis, prefix)
    counters = _of("cache.usage_store", "UsageStore")(redis, prefix)
    for tenant in TENANTS:
        for user in ("", "ann"):
            scope = scope_of(tenant, user, "n")
            partition = await scopes.partition(scope)
            entry = entry_of(
                f"id of {tenant}/{user}", "Who?", f"{tenant} {user}", scope, "f", {}, 1.0, 0.0
            )
            await store.put(partition, asdict(entry), 0.0)
            await store.claim_request_id(partition, "request", entry.id)
            await store.begin_purge(partition)
            await store.append_purge_record(partition, {"time": 1.0})
            await counters.add({(partition, False): {"exact": 1.0}})
        await counters.add({(await scopes.tenant_partition(tenant), True): {"exact": 2.0}})
    await store.delete(["id of acme/ann"])
    await redis.set(f"{prefix}gateway:text_model", "model")
    await store.close()


async def _main(url: str) -> None:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

    prefix = "old-data:"
    redis = AsyncRedis.from_url(url)
    for write in (_write_documents, _write_twins, _write_cache):
        await write(redis, prefix)
    await redis.aclose()
    with Redis.from_url(url) as client:
        rows = dump(client, prefix)
        client.delete(*client.scan_iter(f"{prefix}*"))
    FILE.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
