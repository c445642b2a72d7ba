import time
from collections.abc import AsyncIterator
from typing import Any

from services.gateway.cache import gdsf
from services.gateway.cache.model_store import MAX_BATCH, MAX_BATCH_BYTES, ModelStore
from services.gateway.redis_store import dump
from tests.fakes.redis import FakeRedis

WEIGHTS, ENDS = "p:gateway:weights", "p:gateway:ends"


class ScannedRedis(FakeRedis):
    """Also scans hashes, ten fields at a time, and knows how long keys live."""

    async def hscan(self, key: str, cursor: int, *, count: int) -> tuple[int, dict[bytes, bytes]]:
        names = sorted(self.values.get(key, {}))
        page = names[cursor : cursor + 10]
        following = cursor + 10 if cursor + 10 < len(names) else 0
        return following, {name.encode(): self.values[key][name] for name in page}

    async def hscan_iter(self, key: str, *, count: int) -> AsyncIterator[tuple[bytes, bytes]]:
        for name, row in self.values.get(key, {}).items():
            yield name.encode(), row

    async def pttl(self, key: str) -> int:
        return 1500 if key in self.values else -2

    async def zcount(self, key: str, low: str, high: float) -> int:
        return sum(score <= high for score in self.values.get(key, {}).values())


def build() -> tuple[ScannedRedis, ModelStore]:
    redis: Any = ScannedRedis()
    return redis, ModelStore(redis, "p:")


async def add(redis: FakeRedis, key: str, digest: str, size: int = 100) -> None:
    redis.values[f"p:gateway:entry:{key}"] = dump({"id": key, "digest": digest})
    await redis.hset(WEIGHTS, key, f"{size} 1.5 2 part {digest}")


async def test_expired_entries_are_deleted_before_the_others_are_counted() -> None:
    redis, store = build()
    for key in ("a", "b", "expired"):
        await add(redis, key, "old")
    await add(redis, "c", "new")
    await redis.zadd(ENDS, {"expired": 1.0, "b": 1000 * (time.time() + 60)})

    def delete_expired(keys: list[str], arguments: list[Any]) -> int:
        del redis.values[WEIGHTS]["expired"], redis.values[ENDS]["expired"]
        return 0

    redis.script = delete_expired
    assert await store.count_by_model() == {"old": 2, "new": 1}
    [(script, _, arguments)] = redis.evals
    assert (script, arguments[0]) == (gdsf.EVICT, float("inf"))


async def test_entries_of_other_models_come_in_batches() -> None:
    redis, store = build()
    for number in range(60):
        await add(redis, f"{number:02}", "old" if number % 2 else "new")
    await add(redis, "61", "old")
    del redis.values["p:gateway:entry:61"]  # it has expired
    batches = [one async for one in store.entries_of_other_models("new")]
    assert all(len(batch) <= MAX_BATCH for batch in batches)
    entries = [entry for batch in batches for entry in batch]
    assert sorted(entry.id for entry in entries) == [f"{one:02}" for one in range(1, 60, 2)]
    assert entries[0].record == {"id": entries[0].id, "digest": "old"}
    assert (entries[0].data, entries[0].ttl) == (dump(entries[0].record), 1.5)


async def test_batches_are_limited_by_their_bytes() -> None:
    redis, store = build()
    for key, size in zip("abcde", (9, 6, 3, 20, 1), strict=True):
        await add(redis, key, "old", size * 2**20)
    batches = [one async for one in store.entries_of_other_models("new")]
    assert MAX_BATCH_BYTES == 16 * 2**20
    assert ["".join(entry.id for entry in batch) for batch in batches] == ["ab", "c", "d", "e"]


async def test_large_entries_are_parsed_too() -> None:
    redis, store = build()
    await add(redis, "a", "old")
    large = {"id": "a", "response": "é" * 2**18}
    redis.values["p:gateway:entry:a"] = dump(large)
    [[entry]] = [one async for one in store.entries_of_other_models("new")]
    assert entry.record == large
