"""Builds indexes of a sample with different settings, measures each, and recommends one."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.errors import FailedPrecondition
from services.search import metric_transforms
from services.search.maintenance import TEMPORARY_PREFIX
from services.search.recall_measurement import (
    MAX_SAMPLE,
    Experiment,
    IndexSetting,
    Measurement,
    sample_ids,
    summarise,
    timed_search,
)
from services.search.service import SearchService
from services.search.types import Collection, Document, Query, Vector
from services.search.validation import check_range

MAX_SETTINGS = 64
_MAX_VECTOR_BYTES = 2**29
_MIN_DOCUMENTS = 5
_LOAD_BATCH = 64
_POLL_SECONDS = 0.1
# A setting whose latency is at most this factor of the best counts as equally fast.
_LATENCY_TOLERANCE = 1.1


@dataclass(frozen=True)
class TuningProgress:
    """The number of measured settings and the newest measurements; at the end, the recommendation.

    ``documents`` is the number of documents in each index.
    """

    done: int
    total: int
    measurements: Sequence[Measurement] = ()
    recommended: Measurement | None = None
    documents: int = 0


@dataclass(frozen=True)
class Sample:
    """Vectors to build indexes of, and queries with the answers that a perfect index gives.

    Attributes:
        stored: vectors of the documents, float32 [n, dimensions].
        queries: vectors of the queries, float32 [q, dimensions].
        kth_distances: for each query, the distance of its k-th nearest document.
    """

    stored: Vector
    queries: Vector
    kth_distances: Sequence[float]


async def tune(
    service: SearchService, name: str, settings: Sequence[IndexSetting], experiment: Experiment
) -> AsyncIterator[TuningProgress]:
    """Build an index of a sample for every setting, measure each, and recommend one.

    The queries are documents that are left out of the indexes.

    Raises:
        InvalidArgument: the experiment is out of range.
        FailedPrecondition: the collection has too few documents.
    """
    experiment.check()
    check_range(len(settings), 1, MAX_SETTINGS, "grid")
    collection = await service.collection(name)
    vector_bytes = experiment.documents * collection.dimensions * 4
    check_range(vector_bytes, 1, _MAX_VECTOR_BYTES, "documents' bytes")
    sample = await _sample(service, collection, name, experiment)
    measured: list[Measurement] = []
    for done, setting in enumerate(settings, 1):
        measurements = await _measure(service, collection, setting, experiment, sample)
        measured += measurements
        is_last = done == len(settings)
        best = recommend(measured, experiment.target_recall) if is_last else None
        yield TuningProgress(done, len(settings), measurements, best, len(sample.stored))


def recommend(measured: Sequence[Measurement], target_recall: float) -> Measurement | None:
    """Return the fastest setting that reaches a recall; of equally fast ones, the smallest."""
    good = [one for one in measured if one.recall >= target_recall]
    fastest = min((one.p50 for one in good), default=0.0)
    equally_fast = [one for one in good if one.p50 <= _LATENCY_TOLERANCE * fastest]
    return min(equally_fast, key=lambda one: (one.memory, one.p50), default=None)


async def _sample(
    service: SearchService, collection: Collection, name: str, experiment: Experiment
) -> Sample:
    count = experiment.documents + experiment.queries
    ids = await sample_ids(service, name, count, experiment.seed)
    query_count = min(experiment.queries, len(ids) // _MIN_DOCUMENTS)
    if not query_count:
        raise FailedPrecondition(
            "TOO_FEW_DOCUMENTS",
            f"The collection has {len(ids)} documents; tuning needs at least {_MIN_DOCUMENTS}.",
            field="collection",
            collection=name,
        )
    queries = await _read_vectors(service, name, ids[:query_count])
    stored = await _read_vectors(service, name, ids[query_count:])
    kth_distances = [
        await asyncio.to_thread(_kth_distance, collection.metric, query, stored, experiment.k)
        for query in queries
    ]
    return Sample(stored, queries, kth_distances)


async def _read_vectors(service: SearchService, name: str, ids: Sequence[str]) -> Vector:
    rows = []
    for first in range(0, len(ids), MAX_SAMPLE):
        found = await service.get(name, ids[first : first + MAX_SAMPLE])
        rows += [document.vector for document in found if document]
    return np.stack(rows)


async def _measure(
    service: SearchService,
    collection: Collection,
    setting: IndexSetting,
    experiment: Experiment,
    sample: Sample,
) -> list[Measurement]:
    """Build one index, search it at every ef, and remove it."""
    index = replace(
        collection,
        name=f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}",
        index="hnsw",
        m=setting.m,
        ef_construction=setting.ef_construction,
        quantization=setting.quantization,
        reduced_dimensions=0,
        svs={},
        fields={},
        index_text=False,
    )
    index = (await service.create(index)).collection
    try:
        started = time.perf_counter()
        memory = await _load(service, index, sample.stored)
        rate = len(sample.stored) / (time.perf_counter() - started)
        measurements = []
        for ef in experiment.efs:
            recalls, latencies = await _search_all(service, index, ef, experiment.k, sample)
            measurements.append(
                summarise(
                    replace(setting, ef_runtime=ef),
                    recalls,
                    latencies,
                    memory=memory,
                    documents_per_second=rate,
                )
            )
        return measurements
    finally:
        await service.drop(index.name)


async def _load(service: SearchService, index: Collection, vectors: Vector) -> int:
    """Fill an index and wait until it is complete; return the bytes that it takes."""
    for first in range(0, len(vectors), _LOAD_BATCH):
        rows = vectors[first : first + _LOAD_BATCH]
        documents = [Document(str(first + at), row) for at, row in enumerate(rows)]
        await service.upsert(index, documents)
    while True:
        status = await service.index_status(index.name)
        if status.ready:
            return status.memory
        await asyncio.sleep(_POLL_SECONDS)


async def _search_all(
    service: SearchService, index: Collection, ef: int, k: int, sample: Sample
) -> tuple[list[float], list[float]]:
    """Return the recall and the latency in seconds of every query."""
    query = Query(index, limit=k, ef=ef, return_fields=frozenset())
    recalls, latencies = [], []
    for vector, kth_distance in zip(sample.queries, sample.kth_distances, strict=True):
        found, latency = await timed_search(service, replace(query, vector=vector))
        near = sum(hit.distance <= kth_distance for hit in found.hits)
        recalls.append(near / min(k, len(sample.stored)))
        latencies.append(latency)
    return recalls, latencies


def _kth_distance(metric: str, query: Vector, stored: Vector, k: int) -> float:
    """Return the distance of the k-th nearest vector, with a tolerance for equal distances."""
    distances = metric_transforms.exact_scores(metric, query, stored)[1]
    last = min(k, len(stored)) - 1
    return metric_transforms.with_tolerance(float(np.partition(distances, last)[last]))
