"""Measures the recall and the latency of an index.

Recall is the share of the true k nearest documents that an approximate search returns; documents as
near as the k-th one count. Latencies are those of one query after another, this service included.
"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.search.recall_sampling import recall
from services.search.service import SearchService
from services.search.types import Query, Result
from services.search.validation import MAX_EF, check_range

MAX_SAMPLE = 10_000
MAX_K = 100
MAX_DOCUMENTS = 100_000
_QUERIES_PER_PROGRESS = 20


@dataclass(frozen=True)
class IndexSetting:
    """The parameters of an HNSW index."""

    m: int
    ef_construction: int
    ef_runtime: int
    quantization: str


@dataclass(frozen=True)
class Measurement:
    """What a setting achieves.

    Attributes:
        p50: median latency in seconds.
        p99: 99th percentile of the latency in seconds.
        documents_per_second: rate at which the index was built; 0 if it was not.
        memory: bytes that the index takes.
    """

    setting: IndexSetting
    recall: float
    p50: float
    p99: float
    documents_per_second: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class RecallProgress:
    """The number of measured queries; at the end, the measurements."""

    done: int
    total: int
    measurements: Sequence[Measurement] = ()
    exact_p50: float = 0.0


@dataclass(frozen=True)
class Experiment:
    """What to measure.

    Attributes:
        target_recall: the recall that a recommended setting must reach.
        k: number of hits that each query requests.
        documents: number of documents to build indexes of.
        queries: number of queries for each index.
        efs: values of ef_runtime to measure.
        seed: seed of the random samples.
    """

    target_recall: float = 0.95
    k: int = 10
    documents: int = 10_000
    queries: int = 100
    efs: Sequence[int] = (50, 100, 200, 400)
    seed: int = 0

    def check(self) -> None:
        """Raise InvalidArgument for a value that is out of range."""
        check_range(self.k, 1, MAX_K, "k")
        check_range(self.queries, 1, MAX_SAMPLE, "queries")
        check_range(self.documents, 1, MAX_DOCUMENTS, "documents")
        for ef in self.efs:
            check_range(ef, 1, MAX_EF, "ef_runtime")
        if not 0 < self.target_recall <= 1:
            raise InvalidArgument(
                "OUT_OF_RANGE",
                "target_recall must be more than 0 and at most 1.",
                field="target_recall",
            )


async def measure_recall(
    service: SearchService, name: str, experiment: Experiment
) -> AsyncIterator[RecallProgress]:
    """Search for the neighbours of stored documents, at every ef and exactly.

    Raises:
        InvalidArgument: the experiment is out of range.
        FailedPrecondition: the collection has no documents.
    """
    experiment.check()
    collection = await service.collection(name)
    ids = await sample_ids(service, name, experiment.queries, experiment.seed)
    efs = experiment.efs or (collection.ef_runtime,)
    base = Query(collection, limit=experiment.k, return_fields=frozenset())
    recalls: dict[int, list[float]] = {ef: [] for ef in efs}
    latencies: dict[int, list[float]] = {ef: [] for ef in efs}
    exact_latencies = []
    for done, document_id in enumerate(ids, 1):
        query = replace(base, document_id=document_id)
        try:
            exact, exact_latency = await timed_search(service, replace(query, exact=True))
            for ef in efs:
                found, latency = await timed_search(service, replace(query, ef=ef))
                recalls[ef].append(recall(found, exact))
                latencies[ef].append(latency)
            exact_latencies.append(exact_latency)
        except NotFound:  # the document was deleted after it was sampled
            continue
        if done % _QUERIES_PER_PROGRESS == 0:
            yield RecallProgress(done, len(ids))
    memory = (await service.index_status(name)).memory
    setting = IndexSetting(collection.m, collection.ef_construction, 0, collection.quantization)
    measurements = [
        summarise(replace(setting, ef_runtime=ef), recalls[ef], latencies[ef], memory=memory)
        for ef in efs
    ]
    exact_p50 = float(np.median(exact_latencies or [0.0]))
    yield RecallProgress(len(ids), len(ids), measurements, exact_p50)


async def sample_ids(service: SearchService, name: str, count: int, seed: int) -> list[str]:
    """Return random ids of documents. Raises FailedPrecondition if the collection is empty."""
    ids = await service.sample_ids(name, count, seed)
    if not ids:
        raise FailedPrecondition(
            "EMPTY_COLLECTION",
            "The collection has no documents to measure with; write some first.",
            field="collection",
            collection=name,
        )
    return ids


async def timed_search(service: SearchService, query: Query) -> tuple[Result, float]:
    """Answer a query; return the result and the latency in seconds."""
    started = time.perf_counter()
    [result] = await service.search([query])
    return result, time.perf_counter() - started


def summarise(
    setting: IndexSetting,
    recalls: Sequence[float],
    latencies: Sequence[float],
    *,
    memory: int,
    documents_per_second: float = 0.0,
) -> Measurement:
    """Return the measurement of a setting from the recalls and latencies of its queries."""
    p50, p99 = np.percentile(latencies or [0.0], [50, 99])
    mean_recall = float(np.mean(recalls or [0.0]))
    return Measurement(setting, mean_recall, float(p50), float(p99), documents_per_second, memory)
