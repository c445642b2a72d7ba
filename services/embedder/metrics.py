"""Prometheus metrics of each model."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from services.embedder.models.model import ModelInfo, PreparedInput

_SECONDS_BUCKETS = [0.0005 * 2**step for step in range(15)]
_LABELS = ["model"]
QUEUE_TOKENS = Gauge("memetwin_queue_tokens", "Tokens in a model's queue.", _LABELS)
QUEUE_AGE = Gauge(
    "memetwin_queue_age_seconds", "Seconds that the oldest input has been queued.", _LABELS
)
QUEUE_SECONDS = Histogram(
    "memetwin_queue_seconds",
    "Seconds that the inputs of one call were queued before their batch started.",
    _LABELS,
    buckets=_SECONDS_BUCKETS,
)
PREPROCESS_SECONDS = Histogram(
    "memetwin_preprocess_seconds",
    "Seconds that a call's inputs took to tokenise or decode.",
    _LABELS,
    buckets=_SECONDS_BUCKETS,
)
INFERENCE_SECONDS = Histogram(
    "memetwin_inference_seconds",
    "Seconds that a batch took to compute.",
    _LABELS,
    buckets=_SECONDS_BUCKETS,
)
BATCH_INPUTS = Histogram(
    "memetwin_batch_inputs", "Inputs in a batch.", _LABELS, buckets=[2**n for n in range(9)]
)
BATCH_FILL = Histogram(
    "memetwin_batch_fill",
    "Share of a batch's tokens that are not padding.",
    _LABELS,
    buckets=[0.1 * n for n in range(1, 11)],
)
INPUTS = Counter("memetwin_embed_inputs_total", "Inputs in requests.", _LABELS)
CACHE_HITS = Counter(
    "memetwin_embed_cache_hits_total", "Distinct inputs whose vector was cached.", _LABELS
)
TOKENS = Counter("memetwin_tokens_total", "Tokens computed.", _LABELS)
BUSY_SECONDS = Counter(
    "memetwin_worker_busy_seconds_total", "Seconds that workers spent computing.", _LABELS
)
DEMANDED_SECONDS = Counter(
    "memetwin_worker_demanded_seconds_total",
    "Worker-seconds demanded: from a call's arrival to its vectors, one worker for each of its"
    " inputs, up to all workers.",
    _LABELS,
)
UTILISATION = Gauge(
    "memetwin_worker_utilisation",
    "Recent busy worker-seconds divided by demanded worker-seconds, from 0 to 1.",
    _LABELS,
)
# Time constant, in demanded worker-seconds, of the average that UTILISATION shows.
_TIME_CONSTANT = 10.0


class BatchEntry(Protocol):
    """One input of a batch; ``enqueued_at`` is on the monotonic clock."""

    item: PreparedInput
    enqueued_at: float


class Utilisation:
    """Busy divided by demanded worker-seconds of one model. Not thread-safe.

    Each pending input demands one worker, up to the number of workers.
    """

    def __init__(self, info: ModelInfo) -> None:
        self._workers, self._pending_inputs, self._updated_at = info.workers, 0, 0.0
        self._busy = BUSY_SECONDS.labels(info.name)
        self._demanded = DEMANDED_SECONDS.labels(info.name)
        self._gauge = UTILISATION.labels(info.name)
        self._recent_busy = self._recent_demanded = 0.0
        self._unpublished_demand = 0.0

    @contextlib.contextmanager
    def demand(self, inputs: int) -> Iterator[None]:
        """Count ``inputs`` as pending while the block runs."""
        self._add_pending(inputs)
        try:
            yield
        finally:
            self._add_pending(-inputs)
            if not self._pending_inputs:
                self._publish(busy=0.0)

    def record_busy(self, seconds: float) -> None:
        """Record the time that one worker spent on a batch."""
        self._busy.inc(seconds)
        self._add_pending(0)
        self._publish(busy=seconds)

    def _add_pending(self, inputs: int) -> None:
        now = time.monotonic()
        elapsed = now - self._updated_at
        self._unpublished_demand += min(self._workers, self._pending_inputs) * elapsed
        self._updated_at, self._pending_inputs = now, self._pending_inputs + inputs

    def _publish(self, *, busy: float) -> None:
        """Update the metrics. This is slow, so it runs once per batch instead of once per call."""
        demanded, self._unpublished_demand = self._unpublished_demand, 0.0
        self._demanded.inc(demanded)
        decay = math.exp(-demanded / _TIME_CONSTANT)
        self._recent_busy = self._recent_busy * decay + busy
        self._recent_demanded = self._recent_demanded * decay + demanded
        if self._recent_demanded:
            self._gauge.set(min(1.0, self._recent_busy / self._recent_demanded))


class ModelMetrics:
    """The metrics of one model.

    ``queue_age`` returns the age of the oldest queued input in seconds.
    """

    def __init__(self, info: ModelInfo, queue_age: Callable[[], float]) -> None:
        self.queue_tokens = QUEUE_TOKENS.labels(info.name)
        self.utilisation = Utilisation(info)
        QUEUE_AGE.labels(info.name).set_function(queue_age)
        self._queue_seconds = QUEUE_SECONDS.labels(info.name)
        self._batch_inputs = BATCH_INPUTS.labels(info.name)
        self._batch_fill = BATCH_FILL.labels(info.name)
        self._inputs = INPUTS.labels(info.name)
        self._cache_hits = CACHE_HITS.labels(info.name)
        self._preprocess_seconds = PREPROCESS_SECONDS.labels(info.name)
        self._inference_seconds = INFERENCE_SECONDS.labels(info.name)
        self._tokens = TOKENS.labels(info.name)

    def record_request(self, inputs: int, cache_hits: int, preprocess_seconds: float) -> None:
        """Record a request: its inputs, the cached ones, and the time to preprocess the rest."""
        self._inputs.inc(inputs)
        if cache_hits:
            self._cache_hits.inc(cache_hits)
        self._preprocess_seconds.observe(preprocess_seconds)

    def record_batch(
        self, entries: Sequence[BatchEntry], started_at: float, seconds: float
    ) -> None:
        """Record a batch that started at ``started_at`` and took ``seconds`` to compute."""
        costs = [entry.item.cost for entry in entries]
        queue_times = [started_at - entry.enqueued_at for entry in entries]
        self._batch_inputs.observe(len(entries))
        self._inference_seconds.observe(seconds)
        self._tokens.inc(sum(costs))
        self._batch_fill.observe(sum(costs) / (max(costs) * len(costs)))
        # The inputs of one call share one observation, because observing each of hundreds would be
        # slow.
        for queue_time in set(queue_times):
            self._queue_seconds.observe(queue_time)
