"""Decides lookups as the gateway does, in this process: real models, entries in memory.

``Cache`` runs the semantic tier that LookupEntry runs, with its default bound. Only Redis, search
and the channel to the embedder are replaced.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from services.gateway.backends.types import Hit
from services.gateway.cache import index
from services.gateway.cache.bounds import default_bound
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.semantic_tier import SemanticTier
from services.gateway.cache.similarity_policy import SimilarityPolicy
from services.gateway.cache.types import (
    READING,
    Bound,
    Context,
    Decision,
    Entry,
    Request,
    Scope,
)
from services.gateway.cache.vectors import pack
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from services.gateway.settings import Settings
from tests.fakes.backends import FakeSearch
from tests.fakes.cache_store import FakeCacheStore, fake_scopes
from tests.fakes.redis import FakeRedis
from tools.in_process_embedder import InProcessEmbedder

DATA = Path(os.environ.get("MEMETWIN_TEST_DATA") or "../shared/data")
SCOPE, CONTEXT = Scope("bench"), Context()


class Cache:
    """A cold cache of one tenant, in memory."""

    def __init__(self, embedder: InProcessEmbedder) -> None:
        self._embedder, self._store = embedder, FakeCacheStore()
        self._scopes, verifier = fake_scopes(), PairVerifier(Verifier.load(), embedder)
        redis: Any = FakeRedis()
        controller = ErrorBudgetController(
            self._scopes, self._store, ObservationStore(redis, "bench:"), embedder, verifier
        )
        settings = Settings()
        self._tier = SemanticTier(
            self._scopes,
            self._store,
            FakeSearch(),
            SimilarityPolicy(verifier),
            controller,
            embedder=embedder,
            default_bound=default_bound(
                settings.cache_max_error_rate, settings.cache_min_similarity
            ),
        )
        self._ids: list[str] = []
        self._rows = np.zeros((0, 0), np.float32)

    async def store(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """Store prompts with their answers; replace what the cache has held."""
        vectors = await self._embedder.embed_queries(prompts)
        self._ids, self._rows = [], vectors.rows
        owner = await self._scopes.owner(SCOPE)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            request = Request(SCOPE, CONTEXT, prompt)
            spans = [place for span in vectors.readings[row].unread for place in span]
            entry = Entry(
                await self._scopes.entry_id(request), prompt, answer, SCOPE, CONTEXT.fingerprint,
                CONTEXT.parts, time.time(), 0.0, vector=pack(vectors.rows[row]),
                digest=vectors.digest,
                detail={READING: {"digest": vectors.digest, "unread": spans}},
            )  # fmt: skip
            await self._store.put(owner, asdict(entry), 0)
            self._ids.append(entry.id)

    async def lookup(self, prompt: str, bound: Bound) -> Decision:
        """Decide on the stored prompts nearest to a prompt."""
        vectors = await self._embedder.embed_queries([prompt])
        cosines = self._rows @ vectors.rows[0]
        nearest = np.argsort(-cosines, kind="stable")[: index.BUDGET_CANDIDATES]
        hits = [
            Hit(self._ids[row], float(cosines[row]), 1 - float(cosines[row]), {}, "", b"")
            for row in nearest
        ]
        return await self._tier.choose(Request(SCOPE, CONTEXT, prompt), hits, bound, vectors)
