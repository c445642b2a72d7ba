"""The semantic cache: an exact tier in Redis, and a semantic tier in a search collection.

A lookup never crosses a scope. A keyed hash of tenant, user and namespace, the partition, is part
of every entry id and a condition of every semantic query. The same holds for the fingerprint of the
context (model, parameters, system prompt, tools, response format, history).
"""

import time
from dataclasses import asdict, dataclass, replace

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.cache.curated import curated_requests
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.eviction import Eviction
from services.gateway.cache.owners import Owner
from services.gateway.cache.scopes import Scopes, entry_id
from services.gateway.cache.semantic_tier import SemanticTier
from services.gateway.cache.store import CacheStore, StoredEntry
from services.gateway.cache.types import (
    EMBEDDING_TEXT,
    VECTOR_FROM_CALLER,
    Bound,
    Decision,
    Entry,
    NewEntry,
    Request,
    Scope,
)
from services.gateway.cache.unread import reading_detail
from services.gateway.cache.vectors import is_from_caller, pack


@dataclass(frozen=True)
class Lifetimes:
    """How long the cache keeps entries.

    Attributes:
        ttl: seconds for entries that name no time to live; 0 means no limit.
        max_stale: seconds past the time to live for which entries are kept.
    """

    ttl: float
    max_stale: float = 0.0


class SemanticCache:
    """Looks up and stores responses."""

    def __init__(  # noqa: PLR0913 - wired once
        self,
        scopes: Scopes,
        store: CacheStore,
        semantic_tier: SemanticTier,
        embedder: EmbedderClient,
        *,
        eviction: Eviction,
        controller: ErrorBudgetController,
        lifetimes: Lifetimes,
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._semantic_tier = semantic_tier
        self._embedder = embedder
        self._eviction = eviction
        self._controller = controller
        self._lifetimes = lifetimes

    async def lookup(self, request: Request, mode: str, bound: Bound) -> Decision:
        """Look up a request in the tiers of ``mode``.

        Args:
            request: the prompt in its scope and context.
            mode: ``exact``, ``semantic`` or ``exact_then_semantic``.
            bound: the conditions that a cached answer must meet.

        Raises:
            InvalidArgument: the prompt is empty or too long.
        """
        request.validate()
        if mode != "semantic":
            decision = await self.get(request, bound)
            if decision.kind == "exact" or mode == "exact":
                return decision
        return await self.lookup_by_vector(request, await self.embed(request), bound)

    async def get(self, request: Request, bound: Bound) -> Decision:
        """Look up a request in the exact tier, in one round trip to Redis."""
        partition = await self._scopes.partition(request.scope)
        # The curated entries come first.
        keys = [entry_id(partition, one) for one in (*curated_requests(request), request)]
        records = await self._store.get_each(keys)
        entries = [Entry.from_record(record) for record in records if record]
        entry = next((one for one in entries if not one.is_too_old(bound)), None)
        if entry is None:
            return Decision("miss", miss_reason="too_old" if entries else "not_exact")
        decision = Decision("exact", entry, similarity=1.0, probability=1.0)
        self._controller.record_decision(entry.id, decision)
        return decision

    async def embed(self, request: Request) -> Vectors:
        """Return the vectors of a request, for the semantic tier."""
        return await self._embedder.embed_queries([request.embedding_text])

    async def lookup_by_vector(self, request: Request, vectors: Vectors, bound: Bound) -> Decision:
        """Look up a request in the semantic tier by the first row of its vectors."""
        return await self._semantic_tier.lookup(request, vectors, bound)

    async def semantic_query(self, request: Request, vectors: Vectors, bound: Bound) -> Query:
        """Return the semantic tier's query, for a caller that searches other collections too."""
        return await self._semantic_tier.query(request, vectors, bound)

    async def choose(
        self, request: Request, hits: list[Hit], bound: Bound, vectors: Vectors | None = None
    ) -> Decision:
        """Choose the nearest entry that may answer among the hits of ``semantic_query``."""
        return await self._semantic_tier.choose(request, hits, bound, vectors)

    async def put(
        self,
        request: Request,
        new: NewEntry,
        *,
        vectors: Vectors | None = None,
        request_id: str = "",
        purge_count: int | None = None,
    ) -> Entry:
        """Store a response; it replaces the response to an equal request.

        Args:
            request: the prompt in its scope and context.
            new: the response.
            vectors: the prompt's vector, if known.
            request_id: a retry with the same id returns the entry that the first call stored.
            purge_count: the result of ``purge_count`` before the response was computed. A purge of
                the scope after that keeps the response out.

        Raises:
            InvalidArgument: the prompt or the response is empty or too long.
            InvalidArgument: a caller's vector does not have the dimensions of its model.
            FailedPrecondition: a caller's vector comes from a model that is not the embedder's.
        """
        request.validate()
        new.validate()
        if vectors and is_from_caller(vectors):
            await self._semantic_tier.check_callers_vector(vectors, request.scope)
        owner = await self._scopes.owner(request.scope)
        key = entry_id(owner.partition, request)
        if request_id:
            first = await self._store.claim_request_id(owner, request_id, key)
            existing = await self._read(first)
            if existing is not None and (existing.response == new.response or first != key):
                return existing
        vectors = vectors or await self.embed(request)
        entry = _with_vector(self._entry(key, request, new), request, vectors)
        await self._index(request, entry, vectors)
        await self._put(owner, entry, purge_count)
        return entry

    async def put_exact(
        self, request: Request, new: NewEntry, *, purge_count: int | None = None
    ) -> Entry:
        """Store a response only in the exact tier, which needs neither the embedder nor search.

        The arguments and errors are the same as those of ``put``.
        """
        request.validate()
        new.validate()
        owner = await self._scopes.owner(request.scope)
        entry = self._entry(entry_id(owner.partition, request), request, new)
        await self._put(owner, entry, purge_count)
        return entry

    async def replace_vector(self, stored: StoredEntry, vectors: Vectors) -> None:
        """Give a stored entry the vector of another model: the first row of ``vectors``.

        An entry that has changed since it was read stays unchanged.
        """
        record = stored.record
        prompt = record["prompt"]
        embedded_text = record["detail"].get(EMBEDDING_TEXT, prompt)
        detail = record["detail"] | reading_detail(prompt, embedded_text, vectors)
        vector = {"vector": pack(vectors.rows[0]), "digest": vectors.digest}
        record = record | vector | {"detail": detail}
        entry = Entry.from_record(record)
        partition = await self._scopes.partition(entry.scope)
        if vectors.readable:
            await self._semantic_tier.add(entry, vectors, partition, stored.ttl)
        is_replaced = await self._store.replace(stored, record)
        if is_replaced:
            await self._semantic_tier.remove(Entry.from_record(stored.record), partition)
        elif await self._read(entry.id) is None:  # it was deleted meanwhile
            await self._semantic_tier.remove(entry, partition)

    async def purge_count(self, scope: Scope) -> int:
        """Return how often a scope was purged."""
        return await self._store.purge_count(await self._scopes.owner(scope))

    async def request_key(self, request: Request, bound: Bound) -> str:
        """Return a key that is equal for requests that may share one answer."""
        key = await self._scopes.entry_id(request)
        return key if bound.max_age is None else f"{key}:{bound.max_age}"

    async def _index(self, request: Request, entry: Entry, vectors: Vectors) -> None:
        """Add an entry to the semantic tier, if the model reads its prompt."""
        if vectors.readable:
            partition = await self._scopes.partition(request.scope)
            await self._semantic_tier.add(entry, vectors, partition, self._kept_for(entry))

    async def _put(self, owner: Owner, entry: Entry, purge_count: int | None) -> None:
        kept_for = self._kept_for(entry)
        taken = await self._store.put(owner, asdict(entry), kept_for, purge_count)
        self._eviction.record(taken)
        self._controller.record_answer(entry.id, entry.response)

    def _kept_for(self, entry: Entry) -> float:
        """Return the seconds for which an entry is kept, 0 for no limit."""
        return entry.ttl + self._lifetimes.max_stale if entry.ttl else 0.0

    def _entry(self, key: str, request: Request, new: NewEntry) -> Entry:
        return Entry(
            id=key,
            prompt=request.prompt,
            response=new.response,
            scope=request.scope,
            fingerprint=request.context.fingerprint,
            parts=request.context.parts,
            created_at=time.time(),
            ttl=new.ttl or self._lifetimes.ttl,
            cites=new.cites,
            usage=new.usage,
            detail=new.detail | _embedding_text(request),
            seconds=new.seconds,
        )

    async def _read(self, key: str) -> Entry | None:
        record = await self._store.get(key)
        return Entry.from_record(record) if record else None


def _embedding_text(request: Request) -> dict[str, str]:
    """Return the data from which another model can embed an entry's prompt again."""
    text = request.embedding_text
    return {} if text == request.prompt else {EMBEDDING_TEXT: text}


def _with_vector(entry: Entry, request: Request, vectors: Vectors) -> Entry:
    """Add a vector to an entry, where it comes from, and how its model read the prompt."""
    if is_from_caller(vectors):
        detail = {VECTOR_FROM_CALLER: True}
    else:
        detail = reading_detail(request.prompt, request.embedding_text, vectors)
    return replace(
        entry,
        vector=pack(vectors.rows[0]),
        digest=vectors.digest,
        detail=entry.detail | detail,
    )
