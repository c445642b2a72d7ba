"""Combines the inputs of concurrent calls into batches while the model computes earlier batches.

Each model has one queue, and one worker thread for each batch that it computes at a time. There is
no timer. An idle worker takes queued inputs of similar length, up to the model's token budget for a
batch. It does not wait for the event loop, which may be busy with the calls of the previous batch.
Inputs of calls that were cancelled or are past their deadline are dropped, equal inputs in a batch
are computed once, and calls that the queue cannot hold are refused. ``scheduler`` decides the
order.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from services.embedder.batching.queue import Entry, Job
from services.embedder.batching.scheduler import Scheduler
from services.embedder.cpu import lower_priority
from services.embedder.metrics import ModelMetrics
from services.embedder.models.model import Model, PreparedInput, Vectors
from services.errors import Failure

log = logging.getLogger(__name__)

# How often a call that waits for room in the queue checks again.
_POLL_SECONDS = 0.01
Outcomes = list[Vectors | Exception]


@dataclass(frozen=True)
class Computed:
    """Vectors, float32 [n, d], and the queue and inference seconds of the slowest input."""

    vectors: Vectors
    queue: float
    inference: float


class Batcher:
    """One model's queue and workers.

    Use as ``async with Batcher(model, max_queue_tokens) as batcher``.
    """

    def __init__(self, model: Model, max_queue_tokens: int) -> None:
        self._model = model
        self._scheduler = Scheduler(model.info, max_queue_tokens)
        self.metrics = ModelMetrics(model.info, self._scheduler.queue_age)

    async def __aenter__(self) -> "Batcher":
        self._loop = asyncio.get_running_loop()
        name = f"model-{self._model.info.name}"[:40]
        self._workers = [
            threading.Thread(target=self._run_worker, name=name)
            for _ in range(self._model.info.workers)
        ]
        for worker in self._workers:
            worker.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._scheduler.close()
        for worker in self._workers:
            await asyncio.to_thread(worker.join)

    def check_admission(self, inputs: int, *, bulk: bool, timeout: float | None) -> None:
        """Raise Overloaded if the queue cannot hold ``inputs`` inputs, however short they are.

        It runs before inputs are preprocessed, so that refused calls cost little.
        """
        if inputs:
            self._scheduler.check_admission(inputs, bulk=bulk, timeout=timeout)

    async def submit(
        self,
        items: Sequence[PreparedInput],
        *,
        bulk: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - the queue enforces it
    ) -> Computed:
        """Compute the vectors of inputs, in order; see ``submit_parts``."""
        tokens = sum(item.cost for item in items)
        self._scheduler.check_admission(tokens, bulk=bulk, timeout=timeout)
        job = self._new_job(len(items), timeout)
        self._enqueue(job, 0, items, bulk=bulk)
        return await _finish(job)

    async def submit_parts(
        self,
        parts: Iterable[Awaitable[Sequence[PreparedInput]]],
        count: int,
        *,
        bulk: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - the queue enforces it
    ) -> Computed:
        """Compute the vectors of ``count`` inputs while later inputs are still preprocessed.

        The first part decides whether the call is admitted. Later parts wait for room, so a call
        may have more tokens than the queue holds.

        Raises:
            Overloaded: the queue is full. It carries a retry delay.
            DeadlineExceeded: ``timeout`` seconds passed before the vectors were computed.
        """
        job, first = self._new_job(count, timeout), 0
        try:
            for part in parts:
                items = await part
                if not first:
                    tokens = sum(item.cost for item in items)
                    self._scheduler.check_admission(tokens, bulk=bulk, timeout=timeout)
                # Workers make room in their own threads and do not signal the event loop.
                while self._scheduler.is_full(bulk=bulk) and not job.done.done():  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
                if not job.done.done():
                    self._enqueue(job, first, items, bulk=bulk)
                first += len(items)
            return await _finish(job)
        except BaseException:
            _abandon(job)
            raise

    def _new_job(self, count: int, timeout: float | None) -> Job:
        done = asyncio.get_running_loop().create_future()
        if not count:
            done.set_result(None)
        return Job(
            vectors=np.empty((count, self._model.info.dimensions), np.float32),
            remaining=count,
            done=done,
            deadline=float("inf") if timeout is None else time.monotonic() + timeout,
        )

    def _enqueue(self, job: Job, first: int, items: Sequence[PreparedInput], *, bulk: bool) -> None:
        now = time.monotonic()
        entries = [Entry(job, index, item, now) for index, item in enumerate(items, first)]
        self._scheduler.put(entries, bulk=bulk)

    def _run_worker(self) -> None:
        """Compute one batch after another. Each worker thread runs this."""
        lower_priority()
        while (batch := self._scheduler.next_batch()).entries:
            started_at = time.monotonic()
            outcomes = self._compute([entry.item for entry in batch.entries])
            seconds = time.monotonic() - started_at
            self._scheduler.record_batch(batch, seconds)
            with contextlib.suppress(RuntimeError):  # the loop is closed, so no caller is left
                self._loop.call_soon_threadsafe(
                    self._deliver, batch.entries, outcomes, started_at, seconds
                )

    def _deliver(
        self, entries: list[Entry], outcomes: Outcomes, started_at: float, seconds: float
    ) -> None:
        """Deliver each outcome to its job, on the event loop."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            _deliver(entry, outcome, started_at, seconds)
        self.metrics.queue_tokens.set(self._scheduler.queue_tokens)
        self.metrics.record_batch(entries, started_at, seconds)
        self.metrics.utilisation.record_busy(seconds)

    def _compute(self, items: Sequence[PreparedInput]) -> Outcomes:
        """Compute each distinct input once. If the batch fails, compute its inputs one by one."""
        unique = list({item.key: item for item in items}.values())
        try:
            outcomes: Outcomes = list(self._model.encode(unique))
        except Exception as error:
            if len(unique) == 1:
                log.exception("inference failed", extra={"model": self._model.info.name})
                outcomes = [error]
            else:
                outcomes = [self._compute([item])[0] for item in unique]
        by_key = dict(zip((item.key for item in unique), outcomes, strict=True))
        return [by_key[item.key] for item in items]


async def _finish(job: Job) -> Computed:
    await job.done
    return Computed(job.vectors, job.queue_seconds, job.inference_seconds)


def _abandon(job: Job) -> None:
    """Cancel a job whose call has failed, so that the queue drops its inputs."""
    if not job.done.cancel() and not job.done.cancelled():
        job.done.exception()  # marks it as retrieved; asyncio would log it otherwise


def _deliver(entry: Entry, outcome: Vectors | Exception, started_at: float, seconds: float) -> None:
    job = entry.job
    if job.done.done():
        return
    if isinstance(outcome, Exception):
        job.done.set_exception(
            Failure(
                "INFERENCE_FAILED", "The model failed on this input. The embedder's log says why."
            )
        )
        return
    job.vectors[entry.index] = outcome
    job.queue_seconds = max(job.queue_seconds, started_at - entry.enqueued_at)
    job.inference_seconds = max(job.inference_seconds, seconds)
    job.remaining -= 1
    if not job.remaining:
        job.done.set_result(None)
