"""The semantic cache: an exact tier in the ledger, a semantic tier in a collection of search.

Nothing crosses a scope: tenant, user and namespace become a keyed hash, the partition, which is part
of every exact key and a condition inside every semantic query. The same holds for the fingerprint of
the context (model, parameters, system prompt, tools, response format, history).
"""

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.gateway import verifier
from services.gateway.clients import Document, Hit, Neighbours, Query, Vectors
from services.gateway.ledger import Ledger

PROMPT_LIMIT = 32768
RESPONSE_LIMIT = 4 * 2**20
_FIELDS = {"partition": "tag", "fingerprint": "tag"}


@dataclass(frozen=True)
class Scope:
    """A hard partition of the cache."""

    tenant: str = ""
    user: str = ""
    namespace: str = ""


@dataclass(frozen=True)
class Context:
    """All that an answer depends on besides the prompt; every part is plain data."""

    model: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    system_prompt: str = ""
    tools: list[str] = field(default_factory=list)
    response_format: str = ""
    history: list[tuple[str, str]] = field(default_factory=list)

    def parts(self) -> dict[str, str]:
        """Return a digest of each part by its name."""
        return {name: _digest(value) for name, value in asdict(self).items()}

    def fingerprint(self) -> str:
        """Return the digest of the whole (sha256, hexadecimal)."""
        return _digest(self.parts())


@dataclass(frozen=True)
class Bound:
    """How sure a semantic hit must be: a least cosine, or a largest share of wrong hits."""

    min_similarity: float | None = None
    max_error_rate: float | None = None
    max_age: float | None = None


@dataclass(frozen=True)
class Entry:
    """A prompt and its answer; ``detail`` is plain data that belongs to the response."""

    id: str
    prompt: str
    response: str
    scope: Scope
    fingerprint: str
    parts: dict[str, str]
    created_at: float
    ttl: float
    cites: list[str] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def age(self) -> float:
        """Seconds since it was created."""
        return max(0.0, time.time() - self.created_at)


@dataclass(frozen=True)
class Decision:
    """What a lookup came to: ``kind`` is ``miss``, ``exact`` or ``semantic``."""

    kind: str
    entry: Entry | None = None
    similarity: float = 0.0
    probability: float | None = None
    miss_reason: str = ""
    differing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """A prompt in its scope and context."""

    scope: Scope
    context: Context
    prompt: str

    def check(self) -> None:
        """Raise InvalidArgument for a prompt that is empty or too long."""
        if not self.prompt.strip():
            raise InvalidArgument("EMPTY_PROMPT", "The prompt is empty.", field="prompt")
        if len(self.prompt.encode()) > PROMPT_LIMIT:
            raise InvalidArgument(
                "PROMPT_TOO_LONG",
                f"The prompt is longer than {PROMPT_LIMIT} bytes.",
                field="prompt",
                limit=PROMPT_LIMIT,
            )


class Cache:
    """Looks up and keeps answers."""

    def __init__(
        self, ledger: Ledger, neighbours: Neighbours, *, min_similarity: float, ttl: float
    ) -> None:
        self._ledger = ledger
        self._neighbours = neighbours
        self._min_similarity = min_similarity
        self._ttl = ttl

    async def lookup(self, request: Request, mode: str, bound: Bound) -> Decision:
        """Ask the tiers of ``mode``: ``exact``, ``semantic`` or ``exact_then_semantic``."""
        request.check()
        if mode != "semantic":
            decision = await self.recall(request, bound)
            if decision.kind == "exact" or mode == "exact":
                return decision
        vectors = await self._neighbours.embedder.questions([request.prompt])
        return await self.nearest(request, vectors, bound)

    async def recall(self, request: Request, bound: Bound) -> Decision:
        """Ask the exact tier: one trip to Redis."""
        partition = await self._partition(request.scope)
        entry = await self._read(_entry_id(partition, request))
        if entry is None or _too_old(entry, bound):
            return Decision("miss", miss_reason="not_exact")
        return Decision("exact", entry, similarity=1.0, probability=1.0)

    async def nearest(self, request: Request, vectors: Vectors, bound: Bound) -> Decision:
        """Ask the semantic tier with the prompt's vector."""
        queries = await self.queries(request, vectors)
        try:
            found = await self._neighbours.search.search(queries, vectors.digest)
        except NotFound:
            return Decision("miss", miss_reason="empty")
        except FailedPrecondition:
            return Decision("miss", miss_reason="model_differs")
        return await self.choose(request, found, bound)

    async def queries(self, request: Request, vectors: Vectors) -> list[Query]:
        """Return the two queries of the semantic tier: in this context, and in any."""
        partition = await self._partition(request.scope)
        collection, vector = _collection(vectors.digest), vectors.rows[0]
        here = {"partition": partition, "fingerprint": request.context.fingerprint()}
        return [
            Query(collection, vector, limit=2, tags=here),
            Query(collection, vector, limit=1, tags={"partition": partition}),
        ]

    async def choose(self, request: Request, found: list[list[Hit]], bound: Bound) -> Decision:
        """Decide on what the two queries found: the nearest entry that may answer, or why none."""
        here, anywhere = found
        for hit in here:
            entry = await self._read(hit.id)
            if entry is None or _too_old(entry, bound):
                continue
            return self._judge(request, entry, hit.similarity, bound)
        return await self._explain(request, anywhere, bound)

    async def remember(  # noqa: PLR0913 - an answer has this many parts
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
    ) -> Entry:
        """Keep an answer in both tiers; the same scope, context and prompt replace it."""
        _check_answer(request, response, ttl)
        partition = await self._partition(request.scope)
        key = _entry_id(partition, request)
        if request_id:
            first = await self._ledger.claim_request(partition, request_id, key)
            kept = await self._read(first)
            if kept is not None and (kept.response == response or first != key):
                return kept
        entry = Entry(
            id=key,
            prompt=request.prompt,
            response=response,
            scope=request.scope,
            fingerprint=request.context.fingerprint(),
            parts=request.context.parts(),
            created_at=time.time(),
            ttl=ttl or self._ttl,
            cites=cites or [],
            usage=usage or {},
            detail=detail or {},
        )
        if vectors is None:
            vectors = await self._neighbours.embedder.questions([request.prompt])
        await self._index(entry, vectors, partition)
        await self._ledger.write_entry(key, asdict(entry), entry.ttl)
        return entry

    async def get(self, scope: Scope, key: str) -> Entry:
        """Read an entry of a scope. Raises NotFound for what is not there, or in another scope."""
        entry = await self._read(key)
        if entry is None or entry.scope != scope:
            raise NotFound("ENTRY_NOT_FOUND", "This scope has no such entry.", field="id", id=key)
        return entry

    async def delete(self, scope: Scope, key: str) -> None:
        """Delete an entry of a scope, from the ledger first: what is not there is never served."""
        entry = await self.get(scope, key)
        await self._ledger.delete_entry(entry.id)
        vectors = await self._neighbours.embedder.questions([entry.prompt])
        await self._neighbours.search.delete(_collection(vectors.digest), [entry.id])

    async def _index(self, entry: Entry, vectors: Vectors, partition: str) -> None:
        document = Document(
            id=entry.id,
            vector=vectors.rows[0],
            fields={"partition": partition, "fingerprint": entry.fingerprint},
            ttl=entry.ttl,
        )
        collection = _collection(vectors.digest)
        try:
            await self._neighbours.search.upsert(collection, [document], vectors.digest)
        except NotFound:
            await self._neighbours.search.ensure(collection, vectors, _FIELDS)
            await self._neighbours.search.upsert(collection, [document], vectors.digest)

    def _judge(self, request: Request, entry: Entry, similarity: float, bound: Bound) -> Decision:
        similarity = min(1.0, max(-1.0, similarity))
        probability = verifier.probability(similarity)
        if not self._near_enough(similarity, probability, bound):
            return Decision("miss", None, similarity, probability, "not_similar")
        if request.prompt and verifier.contradicts(request.prompt, entry.prompt):
            return Decision("miss", None, similarity, probability, "contradicts")
        return Decision("semantic", entry, similarity, probability)

    def _near_enough(self, similarity: float, probability: float, bound: Bound) -> bool:
        if bound.max_error_rate is not None:
            return 1 - probability <= bound.max_error_rate
        if bound.min_similarity is not None:
            return similarity >= bound.min_similarity
        return similarity >= self._min_similarity

    async def _explain(self, request: Request, anywhere: list[Hit], bound: Bound) -> Decision:
        """Say why nothing in this context may answer."""
        entry = await self._read(anywhere[0].id) if anywhere else None
        if entry is None:
            return Decision("miss", miss_reason="empty")
        similarity = anywhere[0].similarity
        if not self._near_enough(similarity, verifier.probability(similarity), bound):
            return Decision("miss", None, similarity, None, "not_similar")
        parts = request.context.parts()
        differing = [name for name, digest in parts.items() if entry.parts.get(name) != digest]
        return Decision("miss", None, similarity, None, "context_differs", differing)

    async def _read(self, key: str) -> Entry | None:
        record = await self._ledger.entry(key)
        return Entry(**{**record, "scope": Scope(**record["scope"])}) if record else None

    async def _partition(self, scope: Scope) -> str:
        secret = await self._ledger.secret()
        return hmac.new(secret, _canonical(asdict(scope)), "sha256").hexdigest()


def given(vector: NDArray[np.float32], digest: str) -> Vectors:
    """Return a caller's own prompt vector, float32 [dimensions], as if the embedder had made it.

    Raises:
        InvalidArgument: it has no numbers, or no digest says which model made it.
    """
    if not vector.size or not digest:
        raise InvalidArgument(
            "BAD_VECTOR", "A vector needs numbers and the digest of its model.", field="vector"
        )
    return Vectors(vector.reshape(1, -1), "", digest)


def _check_answer(request: Request, response: str, ttl: float) -> None:
    request.check()
    if not response:
        raise InvalidArgument("EMPTY_RESPONSE", "The response is empty.", field="response")
    if len(response.encode()) > RESPONSE_LIMIT:
        raise InvalidArgument(
            "RESPONSE_TOO_LONG",
            f"The response is longer than {RESPONSE_LIMIT} bytes.",
            field="response",
            limit=RESPONSE_LIMIT,
        )
    if not 0 <= ttl < 2**40:
        raise InvalidArgument("BAD_TTL", "ttl is a number of seconds, 0 or more.", field="ttl")


def _too_old(entry: Entry, bound: Bound) -> bool:
    return bound.max_age is not None and entry.age > bound.max_age


def _entry_id(partition: str, request: Request) -> str:
    key = [partition, request.context.fingerprint(), request.prompt]
    return hashlib.sha256(_canonical(key)).hexdigest()[:32]


def _collection(digest: str) -> str:
    return f"cache-{digest[:16]}"


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


async def settle(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait for writes that run off the path."""
    if tasks:
        await asyncio.wait(tasks)
