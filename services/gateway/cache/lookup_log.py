"""The latest semantic hits and misses of each tenant, which an owner may want to judge.

Keys, under the prefix of the settings:

- ``lookups:<tenant>:<kind>``   sorted set of JSON by time; the kind is ``semantic`` or ``miss``
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.asyncio import Redis

from services.gateway.cache.types import Decision, Request
from services.gateway.redis_store import dump, from_record, load_all, redis_errors

KINDS = ("semantic", "miss")
KEPT_SECONDS = 7 * 86_400
MAX_CHARACTERS = 500  # of a prompt


@dataclass(frozen=True)
class LoggedLookup:
    """A semantic hit or a miss.

    Attributes:
        time: seconds since 1970.
        kind: one of KINDS.
        user: the user of the scope.
        namespace: the namespace of the scope.
        prompt: the start of the prompt.
        entry_id: the entry that was served or, for a miss, the one that would answer the prompt
            exactly.
        nearest_id: the nearest entry, if known.
        nearest_prompt: the start of its prompt.
        similarity: the cosine of the two prompts.
        probability: the estimated probability that the nearest entry answers the prompt.
        reason: why the lookup missed.
        differing_parts: the parts of the context that differ from those of the nearest entry.
    """

    time: float
    kind: str
    user: str
    namespace: str
    prompt: str
    entry_id: str
    nearest_id: str = ""
    nearest_prompt: str = ""
    similarity: float = 0.0
    probability: float | None = None
    reason: str = ""
    differing_parts: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, request: Request, decision: Decision, entry_id: str) -> "LoggedLookup":
        """Return what is logged of a decision that was made now."""
        nearest = decision.nearest
        return cls(
            time.time(),
            decision.kind,
            request.scope.user,
            request.scope.namespace,
            request.prompt[:MAX_CHARACTERS],
            entry_id,
            nearest.id if nearest else "",
            nearest.prompt[:MAX_CHARACTERS] if nearest else "",
            decision.similarity,
            decision.probability,
            decision.miss_reason,
            list(decision.differing_parts),
        )


class LookupLog:
    """Keeps the last ``size`` lookups of each kind and tenant, for KEPT_SECONDS.

    With a size of 0 it keeps none. Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str, size: int) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}gateway:lookups:"
        self.size = size

    async def add(self, lookups: Mapping[str, Iterable[LoggedLookup]]) -> None:
        """Add lookups of tenants, by their partitions, and drop the oldest ones."""
        by_key: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
        for tenant, ones in lookups.items():
            for one in ones:
                by_key[self._key(tenant, one.kind)][dump(asdict(one))] = one.time
        if not by_key:
            return
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for key, added in by_key.items():
                pipe.zadd(key, added)
                pipe.zremrangebyrank(key, 0, -self.size - 1)
                pipe.zremrangebyscore(key, 0, time.time() - KEPT_SECONDS)
                pipe.expire(key, KEPT_SECONDS)
            await pipe.execute()

    async def read(self, tenant: str) -> list[LoggedLookup]:
        """Return the lookups of a tenant, newest first."""
        lookups = [lookup for _, _, lookup in await self._read(tenant)]
        return sorted(lookups, key=lambda lookup: -lookup.time)

    async def forget_entries(self, tenant: str, entry_ids: Collection[str]) -> None:
        """Delete the lookups of a tenant that name one of these entries."""
        ids = frozenset(entry_ids)
        await self._forget(tenant, lambda one: not ids.isdisjoint((one.entry_id, one.nearest_id)))

    async def forget_scope(self, tenant: str, user: str, namespace: str, text: str) -> None:
        """Delete the lookups of a scope whose prompts contain a text, in any letter case."""
        text = text.lower()
        await self._forget(
            tenant,
            lambda one: (
                (one.user, one.namespace) == (user, namespace)
                and any(text in prompt.lower() for prompt in (one.prompt, one.nearest_prompt))
            ),
        )

    async def forget_user(self, tenant: str, user: str) -> None:
        """Delete the lookups of a tenant's user."""
        await self._forget(tenant, lambda one: one.user == user)

    async def _forget(self, tenant: str, selects: Callable[[LoggedLookup], bool]) -> None:
        found = [(key, member) for key, member, one in await self._read(tenant) if selects(one)]
        if not found:
            return
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for key, member in found:
                pipe.zrem(key, member)
            await pipe.execute()

    async def _read(self, tenant: str) -> list[tuple[str, bytes, LoggedLookup]]:
        """Return each lookup with its key and its member of the sorted set."""
        oldest, found = time.time() - KEPT_SECONDS, []
        for key in (self._key(tenant, kind) for kind in KINDS):
            async with redis_errors():
                members = await self._redis.zrange(key, 0, -1)
            records = await load_all(members)
            found += [
                (key, member, from_record(LoggedLookup, record))
                for member, record in zip(members, records, strict=True)
                if record
            ]
        return [one for one in found if one[2].time >= oldest]

    def _key(self, tenant: str, kind: str) -> str:
        return f"{self._prefix}{tenant}:{kind}"
