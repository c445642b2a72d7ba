"""Finds and deletes the keys of a tenant in Redis, which the stores of all features have written.

The name of each key of a tenant contains the hash tag of the tenant, or a hash of the tenant or of
one of its scopes between colons. Nobody can guess these, so no other key contains one.
"""

from collections import Counter
from collections.abc import AsyncIterator, Set
from typing import Any

from redis.asyncio import Redis

from services.gateway.redis_store import CACHE_TAG, as_bytes, one_slot, redis_errors

_BATCH_SIZE = 500
# The scripts of ``cache.gdsf`` delete these keys with the last entry. An entry that is stored
# meanwhile needs them.
_OF_ENTRIES = frozenset({"curated", "entries", "floor", "worth"})


class OwnedKeys:
    """Counts and deletes keys. Every method raises Unavailable if Redis is unreachable.

    Args:
        redis: the client.
        prefix: what every key begins with.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}gateway:"

    async def scopes(self, tenant: str) -> list[str]:
        """Return the hashes of a tenant's scopes with statistics, purges or request ids.

        ``UsageStore``, ``PurgeStore`` and ``CacheStore`` list them under the hash of the tenant.
        """
        found: dict[str, None] = {}
        lists = {
            f"{self._prefix}counted:": "",
            f"{self._prefix}audited:": " ",
            f"{one_slot(self._redis, self._prefix)}requested:": ":",
        }
        for key, separator in lists.items():
            async with redis_errors():
                members = await self._redis.zrange(key + tenant, 0, -1)
            names = (as_bytes(one).decode() for one in members)
            found |= dict.fromkeys(
                name.partition(separator)[0] if separator else name for name in names
            )
        return [*found]

    async def count(self, hash_tag: str, hashes: Set[str]) -> Counter[str]:
        """Return the number of keys of each kind, the first part of their names.

        Args:
            hash_tag: the beginning of the hash tag, with its brace; empty to find none by it.
            hashes: of the tenant and of its scopes.
        """
        counts: Counter[str] = Counter()
        async with redis_errors():
            async for batch in self._batches(hash_tag, hashes):
                counts.update(name.partition(":")[0] for name in batch)
        return counts

    async def delete(self, hash_tag: str, hashes: Set[str]) -> None:
        """Delete the keys."""
        async with redis_errors():
            async for batch in self._batches(hash_tag, hashes):
                await self._redis.unlink(*(self._prefix + name for name in batch))

    async def _batches(self, hash_tag: str, hashes: Set[str]) -> AsyncIterator[list[str]]:
        batch: list[str] = []
        async for key in self._redis.scan_iter(f"{self._prefix}*", count=1000):
            name = as_bytes(key).decode(errors="surrogateescape").removeprefix(self._prefix)
            kind, _, rest = name.removeprefix(f"{CACHE_TAG}:").partition(":")
            if kind in _OF_ENTRIES:
                continue
            is_tagged = bool(hash_tag) and rest.startswith(hash_tag)
            if is_tagged or not hashes.isdisjoint(rest.split(":")):
                batch.append(name)
            if len(batch) >= _BATCH_SIZE:
                yield batch
                batch = []
        if batch:
            yield batch
