"""Measures how good and how fast an index is, and finds one that is good enough.

Recall is the share of the true k nearest documents that an approximate search returns; what is as
near as the k-th counts. Times are of one query after another, our own cost included.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.search import metric_transforms
from services.search.recall_sampling import recall
from services.search.service import TEMPORARY, Collections
from services.search.types import EF_LIMIT, Collection, Document, Query, Result, Vector

SAMPLE_LIMIT = 10_000
K_LIMIT = 100
DOCUMENTS_LIMIT = 100_000
GRID_LIMIT = 64
_VECTOR_BYTES = 2**29
_LOADED_AT_ONCE = 64
_POLL = 0.1
# A setting that is slower by no more than this is as good if it takes less memory.
_NEARLY = 1.1
_PROGRESS = 20


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    m: int
    ef_construction: int
    ef_runtime: int
    quantization: str


@dataclass(frozen=True)
class Measurement:
    """What a setting gives: times in seconds, ``rate`` in documents a second, memory in bytes."""

    setting: Setting
    recall: float
    p50: float
    p99: float
    rate: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class Recalled:
    """How far a measurement is; at the end with what was measured."""

    done: int
    total: int
    measurements: Sequence[Measurement] = ()
    exact_p50: float = 0.0


@dataclass(frozen=True)
class Tuned:
    """How far the tuning is, with what the newest index gives; at the end the recommended one."""

    done: int
    total: int
    measurements: Sequence[Measurement] = ()
    recommended: Measurement | None = None
    documents: int = 0


@dataclass(frozen=True)
class Trial:
    """What to ask of each index."""

    target: float = 0.95
    k: int = 10
    documents: int = 10_000
    queries: int = 100
    efs: Sequence[int] = (50, 100, 200, 400)
    seed: int = 0

    def check(self) -> None:
        """Raise InvalidArgument for what makes no sense."""
        _within(self.k, K_LIMIT, "k")
        _within(self.queries, SAMPLE_LIMIT, "queries")
        _within(self.documents, DOCUMENTS_LIMIT, "documents")
        for ef in self.efs:
            _within(ef, EF_LIMIT, "ef_runtime")
        if not 0 < self.target <= 1:
            raise InvalidArgument(
                "OUT_OF_RANGE", "target_recall is more than 0, at most 1.", field="target_recall"
            )


class Tuning:
    """Measures collections."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def measure(self, name: str, trial: Trial) -> AsyncIterator[Recalled]:
        """Ask for the neighbours of stored documents, at every ef and exactly.

        Raises:
            FailedPrecondition: there are no documents.
        """
        trial.check()
        collection = await self._collections.collection(name)
        ids = await self._sample(name, trial.queries, trial.seed)
        efs = trial.efs or (collection.ef_runtime,)
        base = Query(collection, limit=trial.k, return_fields=frozenset())
        shares: dict[int, list[float]] = {ef: [] for ef in efs}
        times: dict[int, list[float]] = {ef: [] for ef in (0, *efs)}
        for done, key in enumerate(ids, 1):
            query = replace(base, document_id=key)
            try:
                truth, took = await self._timed(replace(query, exact=True))
                for ef in efs:
                    found, took_ef = await self._timed(replace(query, ef=ef))
                    shares[ef].append(recall(found, truth))
                    times[ef].append(took_ef)
                times[0].append(took)
            except NotFound:  # deleted since it was chosen
                continue
            if done % _PROGRESS == 0:
                yield Recalled(done, len(ids))
        memory = (await self._collections.size(name)).memory
        setting = Setting(collection.m, collection.ef_construction, 0, collection.quantization)
        measured = [
            _measurement(replace(setting, ef_runtime=ef), shares[ef], times[ef], memory=memory)
            for ef in efs
        ]
        yield Recalled(len(ids), len(ids), measured, float(np.median(times[0] or [0.0])))

    async def tune(self, name: str, grid: Sequence[Setting], trial: Trial) -> AsyncIterator[Tuned]:
        """Build an index of a sample for every setting of a grid, measure each, recommend one.

        The queries are documents that are left out of the indexes.

        Raises:
            FailedPrecondition: there are too few documents.
        """
        trial.check()
        _within(len(grid), GRID_LIMIT, "grid")
        collection = await self._collections.collection(name)
        _within(trial.documents * collection.dimensions * 4, _VECTOR_BYTES, "documents' bytes")
        ids = await self._sample(name, trial.documents + trial.queries, trial.seed)
        queries = ids[: min(trial.queries, len(ids) // 5)]
        if not queries:
            raise FailedPrecondition(
                "TOO_FEW_DOCUMENTS",
                "The collection has too few documents to tune an index: there must be 5.",
                field="collection",
                collection=name,
            )
        asked = await self._vectors(name, queries)
        stored = await self._vectors(name, ids[len(queries) :])
        truth = [
            await asyncio.to_thread(_nearest, collection.metric, one, stored, trial.k)
            for one in asked
        ]
        measured: list[Measurement] = []
        for done, setting in enumerate(grid, 1):
            fresh = await self._try(collection, setting, trial, (stored, asked, truth))
            measured += fresh
            last = done == len(grid)
            best = recommend(measured, trial.target) if last else None
            yield Tuned(done, len(grid), fresh, best, len(stored))

    async def _sample(self, name: str, count: int, seed: int) -> list[str]:
        ids = await self._collections.sample(name, count, seed)
        if not ids:
            raise FailedPrecondition(
                "EMPTY_COLLECTION",
                "The collection has no documents to measure with.",
                field="collection",
                collection=name,
            )
        return ids

    async def _vectors(self, name: str, ids: Sequence[str]) -> Vector:
        rows = []
        for first in range(0, len(ids), SAMPLE_LIMIT):
            found = await self._collections.get(name, ids[first : first + SAMPLE_LIMIT])
            rows += [document.vector for document in found if document]
        return np.stack(rows)

    async def _timed(self, query: Query) -> tuple[Result, float]:
        started = time.perf_counter()
        [result] = await self._collections.search([query])
        return result, time.perf_counter() - started

    async def _try(
        self,
        collection: Collection,
        setting: Setting,
        trial: Trial,
        data: tuple[Vector, Vector, Sequence[float]],
    ) -> list[Measurement]:
        """Build one index, ask it at every ef, and remove it."""
        stored, asked, truth = data
        index = replace(
            collection,
            name=f"{TEMPORARY}{secrets.token_hex(8)}",
            index="hnsw",
            m=setting.m,
            ef_construction=setting.ef_construction,
            quantization=setting.quantization,
            reduced=0,
            svs={},
            fields={},
            index_text=False,
        )
        index = (await self._collections.create(index)).collection
        try:
            started = time.perf_counter()
            memory = await self._load(index, stored)
            rate = len(stored) / (time.perf_counter() - started)
            measured = []
            for ef in trial.efs:
                query = Query(index, limit=trial.k, ef=ef, return_fields=frozenset())
                shares, times = [], []
                for vector, farthest in zip(asked, truth, strict=True):
                    found, took = await self._timed(replace(query, vector=vector))
                    near = sum(hit.distance <= farthest for hit in found.hits)
                    shares.append(near / min(trial.k, len(stored)))
                    times.append(took)
                one = replace(setting, ef_runtime=ef)
                measured.append(_measurement(one, shares, times, rate=rate, memory=memory))
            return measured
        finally:
            await self._collections.drop(index.name)

    async def _load(self, index: Collection, stored: Vector) -> int:
        """Fill an index and wait until it is complete; return the memory that it takes."""
        for first in range(0, len(stored), _LOADED_AT_ONCE):
            rows = stored[first : first + _LOADED_AT_ONCE]
            documents = [Document(str(first + at), row) for at, row in enumerate(rows)]
            await self._collections.upsert(index, documents)
        while True:
            size = await self._collections.size(index.name)
            if size.ready:
                return size.memory
            await asyncio.sleep(_POLL)


def recommend(measured: Sequence[Measurement], target: float) -> Measurement | None:
    """Return the fastest that reaches a recall, the smallest of those that are nearly as fast."""
    good = [one for one in measured if one.recall >= target]
    fastest = min((one.p50 for one in good), default=0.0)
    nearly = [one for one in good if one.p50 <= _NEARLY * fastest]
    return min(nearly, key=lambda one: (one.memory, one.p50), default=None)


def _measurement(
    setting: Setting,
    shares: Sequence[float],
    times: Sequence[float],
    *,
    memory: int,
    rate: float = 0.0,
) -> Measurement:
    p50, p99 = np.percentile(times or [0.0], [50, 99])
    recall = float(np.mean(shares or [0.0]))
    return Measurement(setting, recall, float(p50), float(p99), rate, memory)


def _nearest(metric: str, vector: Vector, stored: Vector, k: int) -> float:
    """Return the distance of the k-th nearest, what is as near included."""
    distances = metric_transforms.exact_scores(metric, vector, stored)[1]
    last = float(np.partition(distances, min(k, len(stored)) - 1)[min(k, len(stored)) - 1])
    return last + metric_transforms.TIE * max(1.0, abs(last))


def _within(value: int, most: int, place: str) -> None:
    if not 1 <= value <= most:
        raise InvalidArgument(
            "OUT_OF_RANGE", f"{place} is {value}; it can be 1 to {most}.", field=place, most=most
        )
