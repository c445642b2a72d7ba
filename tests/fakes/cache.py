"""A fake semantic cache: an exact tier in a dictionary."""

import asyncio
from typing import Any

import numpy as np

from services.errors import Unavailable
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.cache.types import Bound, Decision, Entry, NewEntry, Request, Scope


class FakeCache:
    """The methods of ``SemanticCache`` that chat and RAG call.

    Attributes:
        entries: what was stored, by key.
        fails: makes every call raise Unavailable.
        semantic_fails: makes the semantic tier raise Unavailable.
        hangs: makes the semantic tier wait forever.
        lookups: how many lookups there were in the exact tier.
        embeds: how many requests were embedded.
        purge_counts: how often each scope was purged.
        next_decision: the decision of the next lookup in the exact tier.
        next_semantic: the decision of the next lookup in the semantic tier.
        vectors: the vectors of each call of ``put``.
        trial: the trial of the semantic tier's decisions.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.fails = self.semantic_fails = self.hangs = False
        self.lookups = self.embeds = 0
        self.vectors: list[Vectors | None] = []
        self.purge_counts: dict[Scope, int] = {}
        self.next_decision: Decision | None = None
        self.next_semantic: Decision | None = None
        self.bounds: list[Bound] = []
        self.trial: Any = None
        self.stored = asyncio.Event()

    async def embed(self, request: Request) -> Vectors:
        """Return a vector of one dimension."""
        self.embeds += 1
        if self.hangs:
            await asyncio.Event().wait()
        self._check(self.semantic_fails)
        return Vectors(np.ones((1, 1), np.float32), "m", "digest")

    async def lookup_by_vector(self, request: Request, vectors: Vectors, bound: Bound) -> Decision:
        """Return ``next_semantic``, or a miss."""
        self._check(self.semantic_fails)
        if self.next_semantic:
            decision, self.next_semantic = self.next_semantic, None
            return decision
        return Decision("miss", miss_reason="not_similar")

    async def get(self, request: Request, bound: Bound) -> Decision:
        self.lookups += 1
        self.bounds.append(bound)
        self._check()
        if self.next_decision:
            decision, self.next_decision = self.next_decision, None
            return decision
        entry = self.entries.get(self._key(request))
        return Decision("exact", entry) if entry else Decision("miss", miss_reason="not_exact")

    async def request_key(self, request: Request, bound: Bound) -> str:
        return self._key(request)

    async def purge_count(self, scope: Scope) -> int:
        self._check()
        return self.purge_counts.get(scope, 0)

    async def semantic_query(self, request: Request, vectors: Vectors, bound: Bound) -> Query:
        return Query("cache", vectors.rows[0], 1)

    async def choose(
        self, request: Request, hits: list[Hit], bound: Bound, vectors: Vectors | None = None
    ) -> Decision:
        """Decide for the entry of the first hit."""
        if not hits:
            return Decision("miss", miss_reason="empty")
        similarity, entry = hits[0].similarity, self.entries[hits[0].id]
        return Decision("semantic", entry, similarity=similarity, trial=self.trial)

    async def put(
        self,
        request: Request,
        new: NewEntry,
        *,
        purge_count: int | None = None,
        vectors: Vectors | None = None,
    ) -> None:
        self._check(self.semantic_fails)
        self.vectors.append(vectors)
        await self.put_exact(request, new, purge_count=purge_count)

    async def put_exact(
        self, request: Request, new: NewEntry, *, purge_count: int | None = None
    ) -> None:
        self._check()
        if purge_count in (None, self.purge_counts.get(request.scope, 0)):
            key = self._key(request)
            self.entries[key] = entry(key, new, request)
        self.stored.set()

    def _check(self, fails: bool = False) -> None:
        if fails or self.fails:
            raise Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.")

    def _key(self, request: Request) -> str:
        return f"{request.scope} {request.context.fingerprint} {request.prompt}"


def entry(key: str, new: NewEntry, request: Request) -> Entry:
    """Return an entry that never goes stale."""
    return Entry(
        id=key,
        prompt=request.prompt,
        response=new.response,
        scope=request.scope,
        fingerprint=request.context.fingerprint,
        parts={},
        created_at=0.0,
        ttl=0.0,
        usage=new.usage,
        detail=new.detail,
        seconds=new.seconds,
    )
