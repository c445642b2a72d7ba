"""The semantic cache: an exact tier in the ledger, a semantic tier in a collection of search.

Nothing crosses a scope: tenant, user and namespace become a keyed hash, the partition, which is
part of every exact key and a condition inside every semantic query. The same holds for the
fingerprint of the context (model, parameters, system prompt, tools, response format, history).
"""

import hashlib
import logging
import re
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import CollectionSpec, Document, Hit, Query, Vectors
from services.gateway.cache.error_budget.candidates import may_follow
from services.gateway.cache.error_budget.controller import ErrorBudgetController, Question, side_of
from services.gateway.cache.eviction import Eviction
from services.gateway.cache.index import CANDIDATES, EFFORT, FIELDS, NEIGHBOURHOOD, collection
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import (
    Bound,
    Decision,
    Entry,
    Request,
    Scope,
    check_answer,
    entry_of,
    packed,
    too_old,
    unpacked,
)
from services.gateway.cache.verifier.features import Text
from services.gateway.cache.verifier.model import Side, Verifier, by_cosine
from services.gateway.digests import canonical

log = logging.getLogger(__name__)
# Prompts of one conversation are near each other by what was said before them: "And on my phone?"
# and "And on my tablet?" have cosine .95. So they must be that likely the same, in the same words.
IN_CONTEXT = 0.8
# It becomes a part of a collection's name.
_DIGEST = re.compile(r"[A-Za-z0-9._-]{1,256}")


class SemanticCache:
    """Looks up and keeps answers."""

    def __init__(  # noqa: PLR0913 - wired once
        self,
        scopes: Scopes,
        store: CacheStore,
        backends: Backends,
        verifier: Verifier,
        eviction: Eviction,
        *,
        evidence: ErrorBudgetController,
        min_similarity: float,
        ttl: float,
        stale: float = 0.0,
    ) -> None:
        self._verifier = verifier
        self._scopes = scopes
        self._store = store
        self._backends = backends
        self._eviction = eviction
        self._evidence = evidence
        self._min_similarity = min_similarity
        self._ttl = ttl
        self._stale = stale

    async def lookup(self, request: Request, mode: str, bound: Bound) -> Decision:
        """Ask the tiers of ``mode``: ``exact``, ``semantic`` or ``exact_then_semantic``."""
        request.check()
        if mode != "semantic":
            decision = await self.get(request, bound)
            if decision.kind == "exact" or mode == "exact":
                return decision
        vectors = await self._backends.embedder.embed_queries([request.in_context])
        return await self.nearest(request, vectors, bound)

    async def key(self, request: Request, bound: Bound) -> str:
        """Return what is the same for requests that one answer serves."""
        key = entry_id(await self._scopes.partition(request.scope), request)
        return key if bound.max_age is None else f"{key}:{bound.max_age}"

    async def get(self, request: Request, bound: Bound) -> Decision:
        """Ask the exact tier: one trip to Redis."""
        partition = await self._scopes.partition(request.scope)
        entry = await self._read(entry_id(partition, request))
        if entry is None or too_old(entry, bound):
            return Decision("miss", miss_reason="too_old" if entry else "not_exact")
        decision = Decision("exact", entry, similarity=1.0, probability=1.0)
        self._evidence.note(entry.id, decision)
        return decision

    async def nearest(self, request: Request, vectors: Vectors, bound: Bound) -> Decision:
        """Ask the semantic tier with the prompt's vector."""
        queries = await self.queries(request, vectors, bound)
        try:
            found = await self._backends.search.search(queries, vectors.digest)
        except NotFound:
            return Decision("miss", miss_reason="empty")
        except FailedPrecondition:
            return Decision("miss", miss_reason="model_differs")
        return await self.choose(request, found, bound, vectors)

    async def queries(self, request: Request, vectors: Vectors, bound: Bound) -> list[Query]:
        """Return the query of the semantic tier."""
        partition = await self._scopes.partition(request.scope)
        here = {"partition": partition, "fingerprint": request.context.fingerprint}
        name, row = collection(vectors.digest, partition), vectors.rows[0]
        limit = CANDIDATES if bound.max_error_rate is None else NEIGHBOURHOOD
        return [Query(name, row, limit=limit, tags=here, ef=EFFORT)]

    async def choose(
        self,
        request: Request,
        found: list[list[Hit]],
        bound: Bound,
        vectors: Vectors | None = None,
    ) -> Decision:
        """Decide on what the query found: the nearest entry that may answer, or why none."""
        nearest_miss: Decision | None = None
        asked = side_of(request.prompt, vectors)
        least = IN_CONTEXT if request.context.history else 0.0
        if bound.max_error_rate is not None:
            key = await self.key(request, Bound())
            decision = await self._evidence.choose(
                Question(request, asked, key, least), found[0], bound
            )
            return decision or await self._explain(request, vectors, bound)
        for hit in found[0]:
            entry = await self._read(hit.id)
            if entry is None or too_old(entry, bound):
                continue
            decision = self._judge(asked, entry, hit.similarity, bound, least)
            if decision.entry:
                return decision
            nearest_miss = nearest_miss or decision
        return nearest_miss or await self._explain(request, vectors, bound)

    async def put(  # noqa: PLR0913 - an answer has this many parts
        self,
        request: Request,
        response: str,
        *,
        vectors: Vectors | None = None,
        ttl: float = 0.0,
        cites: list[str] | None = None,
        usage: dict[str, int] | None = None,
        detail: dict[str, Any] | None = None,
        request_id: str = "",
        purges: int | None = None,
        seconds: float = 0.0,
    ) -> Entry:
        """Keep an answer in both tiers; the same scope, context and prompt replace it.

        Making it took ``seconds``. It is not kept if its scope was purged since it was at
        ``purges``.
        """
        check_answer(request, response, ttl)
        partition = await self._scopes.partition(request.scope)
        key = entry_id(partition, request)
        if request_id:
            first = await self._store.claim_request(partition, request_id, key)
            kept = await self._read(first)
            if kept is not None and (kept.response == response or first != key):
                return kept
        if vectors is None:
            vectors = await self._backends.embedder.embed_queries([request.in_context])
        entry = Entry(
            id=key,
            prompt=request.prompt,
            response=response,
            scope=request.scope,
            fingerprint=request.context.fingerprint,
            parts=request.context.parts,
            created_at=time.time(),
            ttl=ttl or self._ttl,
            cites=cites or [],
            usage=usage or {},
            detail=detail or {},
            vector=packed(vectors.rows[0]),
            digest=vectors.digest,
            seconds=seconds,
        )
        lives = entry.ttl + self._stale if entry.ttl else 0.0
        await self._index(entry, vectors, partition, lives)
        taken = await self._store.write(partition, asdict(entry), lives, purges)
        self._eviction.note(taken)
        self._evidence.answered(key, response)
        return entry

    async def purges(self, scope: Scope) -> int:
        """Return how often a scope was purged."""
        return await self._store.purges(await self._scopes.partition(scope))

    async def _index(self, entry: Entry, vectors: Vectors, partition: str, lives: float) -> None:
        document = Document(
            id=entry.id,
            vector=vectors.rows[0],
            fields={"partition": partition, "fingerprint": entry.fingerprint},
            ttl=lives,
        )
        name = collection(vectors.digest, partition)
        spec = CollectionSpec(name, vectors.rows.shape[1], vectors.digest, FIELDS)
        await self._backends.search.upsert_or_create(spec, [document])

    def _judge(
        self, asked: Side, entry: Entry, similarity: float, bound: Bound, least: float
    ) -> Decision:
        similarity = min(1.0, max(-1.0, similarity))
        if not asked.text.raw:  # a lookup by vector: there are no words to compare
            probability = by_cosine(similarity)
            refused = False
        else:
            kept = Side(Text(entry.prompt), unpacked(entry.vector), entry.digest)
            probability = self._verifier.probability(asked, kept, similarity)
            refused = self._verifier.refuses(asked, kept, similarity, probability)
            refused = refused or (bool(least) and not may_follow(asked, kept, probability, least))
        if not self._near_enough(similarity, probability, bound):
            return Decision("miss", None, similarity, probability, "not_similar")
        if refused:
            return Decision("miss", None, similarity, probability, "contradicts")
        return Decision("semantic", entry, similarity, probability)

    def _near_enough(self, similarity: float, probability: float, bound: Bound) -> bool:
        if bound.max_error_rate is not None:
            return 1 - probability <= bound.max_error_rate
        if bound.min_similarity is not None:
            return similarity >= bound.min_similarity
        return similarity >= self._min_similarity

    async def _explain(self, request: Request, vectors: Vectors | None, bound: Bound) -> Decision:
        """Say why nothing in this context may answer: by what is nearest in any."""
        anywhere = await self._anywhere(request, vectors) if vectors else []
        entry = await self._read(anywhere[0].id) if anywhere else None
        if entry is None:
            return Decision("miss", miss_reason="empty")
        if too_old(entry, bound):
            return Decision("miss", miss_reason="too_old")
        similarity = anywhere[0].similarity
        if not self._near_enough(similarity, by_cosine(similarity), bound):
            return Decision("miss", None, similarity, None, "not_similar")
        parts = request.context.parts
        differing = [name for name, digest in parts.items() if entry.parts.get(name) != digest]
        return Decision("miss", None, similarity, None, "context_differs", differing)

    async def _anywhere(self, request: Request, vectors: Vectors) -> list[Hit]:
        partition = await self._scopes.partition(request.scope)
        name, row = collection(vectors.digest, partition), vectors.rows[0]
        query = Query(name, row, limit=1, tags={"partition": partition}, ef=EFFORT)
        try:
            [hits] = await self._backends.search.search([query], vectors.digest)
        except NotFound:
            return []
        return hits

    async def _read(self, key: str) -> Entry | None:
        record = await self._store.entry(key)
        return entry_of(record) if record else None


def given(vector: NDArray[np.float32], digest: str) -> Vectors:
    """Return a caller's own prompt vector, float32 [dimensions], as if the embedder had made it.

    Raises:
        InvalidArgument: it has no numbers, or no digest says which model made it.
    """
    if not vector.size or not digest:
        raise InvalidArgument(
            "BAD_VECTOR", "A vector needs numbers and the digest of its model.", field="vector"
        )
    if not _DIGEST.fullmatch(digest):
        raise InvalidArgument(
            "BAD_DIGEST",
            "A model's digest has 1 to 256 letters, digits, '.', '_' or '-', as GetModel tells it.",
            field="model_digest",
        )
    return Vectors(vector.reshape(1, -1), "", digest)


def entry_id(partition: str, request: Request) -> str:
    """Return the id that a prompt's entry has in a partition."""
    key = [partition, request.context.fingerprint, request.prompt]
    return hashlib.sha256(canonical(key)).hexdigest()[:32]
