"""The semantic tier: prompts in a search collection, and the choice among the nearest ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient
from services.gateway.backends.types import CollectionSpec, Document, Hit, Query, Value, Vectors
from services.gateway.cache import index, old_indexes, unread
from services.gateway.cache.bounds import or_default
from services.gateway.cache.curated import curated_requests, differing_parts, is_curated
from services.gateway.cache.error_budget.controller import BudgetLookup, ErrorBudgetController
from services.gateway.cache.questions import question_of
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.similarity_policy import SimilarityPolicy, is_near_enough
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Bound, Decision, Entry, Request, Scope
from services.gateway.cache.vectors import is_from_caller

# The prompts of one conversation are near each other because of the messages before them: "And on
# my phone?" and "And on my tablet?" have cosine .95. So two of them must have the same words and at
# least this probability.
CONVERSATION_MIN_PROBABILITY = 0.6
# Redis takes some milliseconds for each vector that it adds to a large collection, and serves no
# other client during a batch.
UPSERT_BATCH = 16


class SemanticTier:
    """Indexes prompts, queries them and decides whether a near one may answer."""

    def __init__(  # noqa: PLR0913 - wired once
        self,
        scopes: Scopes,
        store: CacheStore,
        search: SearchClient,
        policy: SimilarityPolicy,
        controller: ErrorBudgetController,
        *,
        embedder: EmbedderClient,
        default_bound: Bound,
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._embedder = embedder
        self._search = search
        self._policy = policy
        self._controller = controller
        self._default_bound = default_bound

    async def lookup(self, request: Request, vectors: Vectors, bound: Bound) -> Decision:
        """Search the prompts nearest to a request, and decide on them."""
        if not vectors.readable:
            return Decision("miss", miss_reason="unreadable")
        query = await self.query(request, vectors, bound)
        try:
            [hits] = await self._search.search([query], vectors.digest)
        except NotFound:
            return Decision("miss", miss_reason="empty")
        except FailedPrecondition:
            return Decision("miss", miss_reason="model_differs")
        except InvalidArgument:
            if is_from_caller(vectors):  # search names fields of its own request
                await self.check_callers_vector(vectors, request.scope)
            raise
        return await self.choose(request, hits, bound, vectors)

    async def query(self, request: Request, vectors: Vectors, bound: Bound) -> Query:
        """Return the query for the prompts nearest to a request in its scope and context."""
        bound = or_default(bound, self._default_bound)
        partition = await self._scopes.partition(request.scope)
        curated = curated_requests(request)
        limit = index.CURATED_CANDIDATES if curated else _limit(bound)
        fingerprints = [one.context.fingerprint for one in (request, *curated)]
        return index.query(vectors, partition, limit, *fingerprints)

    async def choose(
        self, request: Request, hits: Sequence[Hit], bound: Bound, vectors: Vectors | None
    ) -> Decision:
        """Decide on the hits of ``query``: the nearest entry that may answer, or why none may.

        A curated entry that may answer comes before all others.
        """
        if vectors and not vectors.readable:
            return Decision("miss", miss_reason="unreadable")
        bound = or_default(bound, self._default_bound)
        misses: list[Decision] = []
        for curated in (True, False):
            group = [hit for hit in hits if is_curated(hit.id) == curated][: _limit(bound)]
            decision = await self._choose(request, group, bound, vectors) if group else None
            if decision and decision.entry:
                # A language model words its answers differently from the owner, so no comparison
                # with a curated answer teaches the error budget anything.
                return replace(decision, trial=None) if curated else decision
            misses += [decision] if decision else []
        nearest = max(misses, key=lambda miss: miss.similarity, default=None)
        return nearest or await self._explain_miss(request, vectors, bound)

    async def _choose(
        self, request: Request, hits: Sequence[Hit], bound: Bound, vectors: Vectors | None
    ) -> Decision | None:
        """Decide on curated hits or on others; None if no entry is eligible."""
        question = question_of(request.prompt, vectors)
        min_probability = CONVERSATION_MIN_PROBABILITY if request.context.history else 0.0
        if bound.max_error_rate is not None:
            # Without an id, the budget does not compare the entry with the answer to this request.
            entry_id = "" if is_curated(hits[0].id) else await self._scopes.entry_id(request)
            lookup = BudgetLookup(request, question, entry_id, min_probability, vectors)
            return await self._controller.choose(lookup, hits, bound)
        nearest_miss: Decision | None = None
        for hit in hits:
            entry = await self._read(hit.id)
            if entry is None or entry.is_too_old(bound):
                continue
            decision = await self._policy.decide(
                question, entry, hit.similarity, bound, min_probability
            )
            if decision.entry:
                if await unread.agreeing(request, vectors, [entry], self._embedder):
                    return decision
                decision = replace(
                    decision,
                    kind="miss",
                    entry=None,
                    miss_reason="contradicts",
                    nearest=entry.as_nearest,
                )
            nearest_miss = nearest_miss or decision
            if decision.miss_reason == "not_similar":  # the other hits are no nearer
                break
        return nearest_miss

    async def check_callers_vector(self, vectors: Vectors, scope: Scope) -> None:
        """Check that a caller's vector can come from the model that the caller names.

        All tenants share the index of a model. So a caller's vector never determines the model or
        the dimensions of an index.

        Raises:
            FailedPrecondition: the model is not the embedder's, and has no index.
            InvalidArgument: vectors of the model have another number of dimensions.
        """
        name = index.collection_name(vectors.digest, await self._scopes.partition(scope))
        digest, dimensions = await self._search.model(name) or ("", 0)
        if digest != vectors.digest:
            model = await self._embedder.text_model()
            digest, dimensions = model.digest, model.dimensions
        if digest != vectors.digest:
            raise FailedPrecondition(
                "MODEL_MISMATCH",
                "model_digest differs from that of the embedder's text model, and no entry has a"
                " vector of this model. Send the digest that GetModel returns.",
                field="model_digest",
                model_digest=digest,
            )
        given = vectors.rows.shape[1]
        if given != dimensions:
            raise InvalidArgument(
                "WRONG_DIMENSIONS",
                f"The vector has {given} numbers. Vectors of this model have {dimensions}; send"
                " the vector that Embed returns with encoding FLOAT32.",
                field="vector",
                expected=dimensions,
                given=given,
            )

    async def add(self, entry: Entry, vectors: Vectors, partition: str, ttl: float) -> None:
        """Index an entry's prompt for ``ttl`` seconds, 0 for no limit.

        ``check_callers_vector`` has accepted a vector that comes from a caller.
        """
        document = _document(entry, vectors.rows[0], partition, ttl)
        await self._upsert(_spec(vectors, partition), [document])

    async def add_batch(self, entries: Sequence[Entry], vectors: Vectors, partition: str) -> None:
        """Index the prompts of entries, whose vectors the embedder computed.

        Args:
            entries: the entries, of one partition. Each stays for its time to live.
            vectors: has one row for each entry.
            partition: the partition.
        """
        rows = zip(entries, vectors.rows, strict=True)
        documents = [_document(entry, row, partition, entry.ttl) for entry, row in rows]
        spec = _spec(vectors, partition)
        for first in range(0, len(documents), UPSERT_BATCH):
            await self._upsert(spec, documents[first : first + UPSERT_BATCH])

    async def remove(self, entry: Entry, partition: str) -> None:
        """Delete an entry's prompt from the index of its model."""
        await self._search.delete(index.collection_name(entry.digest, partition), [entry.id])

    async def _upsert(self, spec: CollectionSpec, documents: Sequence[Document]) -> None:
        try:
            await self._search.upsert(spec.name, documents, spec.model_digest)
        except NotFound:
            if not await old_indexes.adopt_for(self._search, spec):
                await self._search.ensure(spec)
            await self._search.upsert(spec.name, documents, spec.model_digest)

    async def _explain_miss(
        self, request: Request, vectors: Vectors | None, bound: Bound
    ) -> Decision:
        """Explain why no entry of this context may answer, by the nearest prompt of any context."""
        hits = await self._nearest_in_scope(request, vectors) if vectors else []
        entry = await self._read(hits[0].id) if hits else None
        if entry is None:
            return Decision("miss", miss_reason="empty")
        if entry.is_too_old(bound):
            return Decision("miss", miss_reason="too_old")
        similarity = hits[0].similarity
        if not is_near_enough(similarity, bound):
            return Decision("miss", None, similarity, None, "not_similar", nearest=entry.as_nearest)
        differing = differing_parts(request.context, entry)
        decision = Decision("miss", None, similarity, None, "context_differs", differing)
        return replace(decision, nearest=entry.as_nearest)

    async def _nearest_in_scope(self, request: Request, vectors: Vectors) -> list[Hit]:
        query = index.query(vectors, await self._scopes.partition(request.scope), 1)
        try:
            [hits] = await self._search.search([query], vectors.digest)
        except NotFound:
            return []
        return hits

    async def _read(self, entry_id: str) -> Entry | None:
        record = await self._store.get(entry_id)
        return Entry.from_record(record) if record else None


def _limit(bound: Bound) -> int:
    """Return how many of the nearest entries are candidates."""
    is_budget = bound.max_error_rate is not None
    return index.BUDGET_CANDIDATES if is_budget else index.SIMILARITY_CANDIDATES


def _document(entry: Entry, row: NDArray[np.float32], partition: str, ttl: float) -> Document:
    fields: dict[str, Value] = {"partition": partition, "fingerprint": entry.fingerprint}
    return Document(id=entry.id, vector=row, fields=fields, ttl=ttl)


def _spec(vectors: Vectors, partition: str) -> CollectionSpec:
    name = index.collection_name(vectors.digest, partition)
    return CollectionSpec(name, vectors.rows.shape[1], vectors.digest, index.FIELDS)
