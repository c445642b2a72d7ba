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
from numpy.typing import NDArray

from services.embedder.models.question_pairs import QuestionPairModel
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.embedder.readability import Readability
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Hit, TextReading, Vectors
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

DATA = Path(os.environ.get("MEMETWIN_TEST_DATA") or "../shared/data")
SCOPE, CONTEXT = Scope("bench"), Context()
_BATCH = 128


class InProcessEmbedder(EmbedderClient):
    """Embeds texts and scores pairs in this process, and remembers the results."""

    def __init__(self) -> None:
        self._texts = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
        self._pairs = QuestionPairModel.load()
        self._readability = Readability.for_model(self._texts, None)
        self._rows: dict[str, tuple[NDArray[np.float32], TextReading]] = {}
        self._scores: dict[tuple[str, str], float] = {}
        self.digest = self._texts.info.digest

    async def embed_queries(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        self._read([text for text in dict.fromkeys(texts) if text not in self._rows])
        rows, readings = zip(*(self._rows[text] for text in texts), strict=True)
        return Vectors(np.stack(rows), "", self.digest, readings)

    async def score_pairs(
        self, question: str, others: Sequence[str], model: str, seconds: float
    ) -> tuple[NDArray[np.float64], str]:
        return np.array([self._score(question, other) for other in others]), self._pairs.info.digest

    def score_all(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Score many pairs in batches, which is faster than one by one."""
        inputs = self._pairs.prepare(pairs, "")
        order = sorted(range(len(pairs)), key=lambda place: inputs[place].cost)
        for first in range(0, len(order), _BATCH):
            batch = order[first : first + _BATCH]
            scores = self._pairs.encode([inputs[place] for place in batch])[:, 0]
            self._scores |= dict(zip((pairs[place] for place in batch), scores, strict=True))

    def _score(self, one: str, other: str) -> float:
        if (one, other) not in self._scores:
            self.score_all([(one, other)])
        return float(self._scores[one, other])

    def _read(self, texts: Sequence[str]) -> None:
        inputs = self._texts.prepare(texts, "query")
        order = sorted(range(len(texts)), key=lambda place: inputs[place].cost)
        for first in range(0, len(order), _BATCH):
            batch = order[first : first + _BATCH]
            vectors = self._texts.encode([inputs[place] for place in batch])
            for place, vector in zip(batch, vectors, strict=True):
                read = self._readability.judge(inputs[place].reading)
                reading = TextReading()
                if read:
                    cut = ((read.end, read.length),) if read.end < read.length else ()
                    reading = TextReading(read.readable, bool(cut), (*read.unread, *cut))
                self._rows[texts[place]] = (vector / np.linalg.norm(vector), reading)


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
