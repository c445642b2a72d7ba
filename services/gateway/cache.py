"""The semantic cache: an exact tier in the ledger, a semantic tier in a collection of search.

Nothing crosses a scope: tenant, user and namespace become a keyed hash, the partition, which is
part of every exact key and a condition inside every semantic query. The same holds for the
fingerprint of the context (model, parameters, system prompt, tools, response format, history).
"""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.gateway.clients import Document, Hit, Neighbours, Query, Vectors
from services.gateway.entries import (
    Bound,
    Decision,
    Entry,
    Purge,
    Request,
    Scope,
    canonical,
    check_answer,
    packed,
    too_old,
    unpacked,
)
from services.gateway.ledger import Ledger
from services.gateway.records import Record
from services.gateway.signs import Text
from services.gateway.tally import Tally
from services.gateway.verifier import Side, Verifier, by_cosine

log = logging.getLogger(__name__)

# How many entries are judged: the nearest may be an opposite, the next one may answer.
CANDIDATES = 4
PURGE_PAGE = 500
SAMPLE = 10
_FIELDS = {"partition": "tag", "fingerprint": "tag"}
# It becomes a part of a collection's name.
_DIGEST = re.compile(r"[A-Za-z0-9._-]{1,256}")


class Cache:
    """Looks up and keeps answers."""

    def __init__(
        self,
        ledger: Ledger,
        neighbours: Neighbours,
        verifier: Verifier,
        *,
        min_similarity: float,
        ttl: float,
    ) -> None:
        self._verifier = verifier
        self._tally = Tally(ledger)
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

    async def key(self, request: Request, bound: Bound) -> str:
        """Return what is the same for requests that one answer serves."""
        key = _entry_id(await self._partition(request.scope), request)
        return key if bound.max_age is None else f"{key}:{bound.max_age}"

    async def recall(self, request: Request, bound: Bound) -> Decision:
        """Ask the exact tier: one trip to Redis."""
        partition = await self._partition(request.scope)
        entry = await self._read(_entry_id(partition, request))
        if entry is None or too_old(entry, bound):
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
        return await self.choose(request, found, bound, vectors)

    async def queries(self, request: Request, vectors: Vectors) -> list[Query]:
        """Return the two queries of the semantic tier: in this context, and in any."""
        partition = await self._partition(request.scope)
        collection, vector = _collection(vectors.digest), vectors.rows[0]
        here = {"partition": partition, "fingerprint": request.context.fingerprint()}
        return [
            Query(collection, vector, limit=CANDIDATES, tags=here),
            Query(collection, vector, limit=1, tags={"partition": partition}),
        ]

    async def choose(
        self,
        request: Request,
        found: list[list[Hit]],
        bound: Bound,
        vectors: Vectors | None = None,
    ) -> Decision:
        """Decide on what the two queries found: the nearest entry that may answer, or why none."""
        here, anywhere = found
        nearest_miss: Decision | None = None
        asked = _side(request.prompt, vectors)
        for hit in here:
            entry = await self._read(hit.id)
            if entry is None or too_old(entry, bound):
                continue
            decision = self._judge(asked, entry, hit.similarity, bound)
            if decision.entry:
                return decision
            nearest_miss = nearest_miss or decision
        return nearest_miss or await self._explain(request, anywhere, bound)

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
        purges: int | None = None,
    ) -> Entry:
        """Keep an answer in both tiers; the same scope, context and prompt replace it.

        It is not kept if its scope was purged since it was at ``purges``.
        """
        check_answer(request, response, ttl)
        partition = await self._partition(request.scope)
        key = _entry_id(partition, request)
        if request_id:
            first = await self._ledger.claim_request(partition, request_id, key)
            kept = await self._read(first)
            if kept is not None and (kept.response == response or first != key):
                return kept
        if vectors is None:
            vectors = await self._neighbours.embedder.questions([request.prompt])
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
            vector=packed(vectors.rows[0]),
            digest=vectors.digest,
        )
        await self._index(entry, vectors, partition)
        await self._ledger.write_entry(partition, asdict(entry), entry.ttl, purges)
        return entry

    async def get(self, scope: Scope, key: str) -> Entry:
        """Read an entry of a scope. Raises NotFound for what is not there, or in another scope."""
        entry = await self._read(key)
        if entry is None or entry.scope != scope:
            raise NotFound("ENTRY_NOT_FOUND", "This scope has no such entry.", field="id", id=key)
        return entry

    async def delete(self, scope: Scope, key: str) -> None:
        """Delete an entry of a scope, from the ledger first: what is not there is never served."""
        await self._forget(await self._partition(scope), [await self.get(scope, key)])

    async def page(self, scope: Scope, size: int, token: str) -> tuple[list[Entry], str]:
        """Return a page of a scope's entries by id, and the next page's token."""
        partition = await self._partition(scope)
        records, following = await self._ledger.entries(partition, size, token)
        return [_entry(record) for record in records], following

    async def purge(self, scope: Scope, wanted: Purge) -> tuple[int, list[Entry]]:
        """Count the entries that meet a filter, and delete them if forced; return some of them.

        Raises:
            InvalidArgument: everything would be deleted, and that was not said.
        """
        wanted.check()
        partition, token, count = await self._partition(scope), "", 0
        if wanted.force:
            await self._ledger.begin_purge(partition)
        sample: list[Entry] = []
        while True:
            page, token = await self.page(scope, PURGE_PAGE, token)
            met = [entry for entry in page if wanted.meets(entry)]
            count += len(met)
            sample += met[: SAMPLE - len(sample)]
            if met and wanted.force:
                await self._forget(partition, met)
            if not token:
                break
        log.info("purge", extra={"partition": partition, "entries": count, "force": wanted.force})
        return count, sample

    async def purges(self, scope: Scope) -> int:
        """Return how often a scope was purged: what is asked now may be kept until it is again."""
        return await self._ledger.purges(await self._partition(scope))

    async def judge(self, scope: Scope, key: str, *, correct: bool) -> bool:
        """Note whether an entry answered rightly; delete it if not, and say if it is gone."""
        entry = await self.get(scope, key)
        partition = await self._partition(scope)
        await self._ledger.count(partition, {"right" if correct else "wrong": 1})
        if not correct:
            await self._forget(partition, [entry])
        return not correct

    async def stats(self, scope: Scope) -> dict[str, float]:
        """Return the counters of a scope, those of all replicas together."""
        partition = await self._partition(scope)
        await self._tally.flush(partition)
        return await self._ledger.counters(partition)

    async def note(self, scope: Scope, decision: Decision) -> None:
        """Count a decision; off the path it reaches the other replicas."""
        self._tally.add(await self._partition(scope), decision)

    async def settle(self) -> None:
        """Write the counts that have not been written."""
        await self._tally.close()

    async def _forget(self, partition: str, entries: Sequence[Entry]) -> None:
        """Delete entries, from the ledger first: what is not there is never served."""
        await self._ledger.delete_entries(partition, [entry.id for entry in entries])
        for digest in {entry.digest for entry in entries}:
            ids = [entry.id for entry in entries if entry.digest == digest]
            await self._neighbours.search.delete(_collection(digest), ids)

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

    def _judge(self, asked: Side, entry: Entry, similarity: float, bound: Bound) -> Decision:
        similarity = min(1.0, max(-1.0, similarity))
        if not asked.text.raw:  # a lookup by vector: there are no words to compare
            probability = by_cosine(similarity)
            refused = False
        else:
            kept = Side(Text(entry.prompt), unpacked(entry.vector), entry.digest)
            probability = self._verifier.probability(asked, kept, similarity)
            refused = self._verifier.refuses(asked, kept, similarity, probability)
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

    async def _explain(self, request: Request, anywhere: list[Hit], bound: Bound) -> Decision:
        """Say why nothing in this context may answer."""
        entry = await self._read(anywhere[0].id) if anywhere else None
        if entry is None:
            return Decision("miss", miss_reason="empty")
        similarity = anywhere[0].similarity
        if not self._near_enough(similarity, by_cosine(similarity), bound):
            return Decision("miss", None, similarity, None, "not_similar")
        parts = request.context.parts()
        differing = [name for name, digest in parts.items() if entry.parts.get(name) != digest]
        return Decision("miss", None, similarity, None, "context_differs", differing)

    async def _read(self, key: str) -> Entry | None:
        record = await self._ledger.entry(key)
        return _entry(record) if record else None

    async def _partition(self, scope: Scope) -> str:
        secret = await self._ledger.secret()
        return hmac.new(secret, canonical(asdict(scope)), "sha256").hexdigest()


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


def _entry(record: Record) -> Entry:
    return Entry(**{**record, "scope": Scope(**record["scope"])})


def _side(prompt: str, vectors: Vectors | None) -> Side:
    if vectors is None:
        return Side(Text(prompt))
    row = vectors.rows[0]
    return Side(Text(prompt), row / max(float(np.linalg.norm(row)), 1e-12), vectors.digest)


def _entry_id(partition: str, request: Request) -> str:
    key = [partition, request.context.fingerprint(), request.prompt]
    return hashlib.sha256(canonical(key)).hexdigest()[:32]


def _collection(digest: str) -> str:
    return f"cache-{digest[:16]}"
