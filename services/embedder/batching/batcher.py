"""Joins the inputs of all callers into batches, while the model is busy with those before.

One queue for each model, and a thread for each batch that it computes at once. There is no timer:
a thread that is free takes what waits, alike in length so that little is padded, up to the
model's budget of tokens. It does not ask the event loop, which may be busy with the callers of the
batch before. What was cancelled or is past its deadline is dropped, the same input twice in a batch
is computed once, and what cannot be queued is refused at the door. See ``schedule`` for whose turn
it is.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from services.embedder.batching.queue import Entry, Job, Rows
from services.embedder.batching.scheduler import Schedule
from services.embedder.cpu import give_way
from services.embedder.metrics import Metrics
from services.embedder.models.model import Model, PreparedInput
from services.errors import Failure

log = logging.getLogger(__name__)

# Seconds after which a call that waits for room looks again.
_ROOM_PERIOD = 0.01
Outcomes = list[Rows | Exception]


@dataclass(frozen=True)
class Computed:
    """Vectors float32 [n, dimensions], and the seconds that the slowest input waited and took."""

    rows: Rows
    queue: float
    inference: float


class Batcher:
    """The queue of one model. Use as ``async with Batcher(model, queue_tokens) as batcher``."""

    def __init__(self, model: Model, queue_tokens: int) -> None:
        self._model = model
        self._schedule = Schedule(model.info, queue_tokens)
        self.metrics = Metrics(model.info, self._schedule.age)

    async def __aenter__(self) -> "Batcher":
        self._loop = asyncio.get_running_loop()
        name = f"model-{self._model.info.name}"[:40]
        self._threads = [
            threading.Thread(target=self._work, name=name) for _ in range(self._model.info.workers)
        ]
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._schedule.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    async def submit(
        self, items: Sequence[PreparedInput], *, bulk: bool = False, within: float | None = None
    ) -> Computed:
        """Compute the vectors of inputs, in their order; see ``submit_parts``."""
        self._schedule.admit(sum(item.cost for item in items), bulk=bulk, within=within)
        job = self._job(len(items), within)
        self._queue(job, 0, items, bulk=bulk)
        return await _finished(job)

    async def submit_parts(
        self,
        parts: Iterable[Awaitable[Sequence[PreparedInput]]],
        count: int,
        *,
        bulk: bool = False,
        within: float | None = None,
    ) -> Computed:
        """Compute the vectors of ``count`` inputs, the first while the last are being prepared.

        A call is let in or refused with its first part. The others wait for room, so that a call
        may have more tokens than the queue.

        Raises:
            Overloaded: too much waits already; with the time after which to try again.
            DeadlineExceeded: ``within`` seconds passed before they were computed.
        """
        job, first = self._job(count, within), 0
        try:
            for part in parts:
                items = await part
                if not first:
                    self._schedule.admit(sum(item.cost for item in items), bulk=bulk, within=within)
                # Room is made by threads, which tell nobody.
                while self._schedule.is_full(bulk=bulk) and not job.done.done():  # noqa: ASYNC110
                    await asyncio.sleep(_ROOM_PERIOD)
                if not job.done.done():
                    self._queue(job, first, items, bulk=bulk)
                first += len(items)
            return await _finished(job)
        except BaseException:
            _give_up(job)
            raise

    def _job(self, count: int, within: float | None) -> Job:
        done = asyncio.get_running_loop().create_future()
        if not count:
            done.set_result(None)
        return Job(
            rows=np.empty((count, self._model.info.dimensions), np.float32),
            left=count,
            done=done,
            deadline=float("inf") if within is None else time.monotonic() + within,
        )

    def _queue(self, job: Job, first: int, items: Sequence[PreparedInput], *, bulk: bool) -> None:
        now = time.monotonic()
        entries = [Entry(job, number, item, now) for number, item in enumerate(items, first)]
        self._schedule.add(entries, bulk=bulk)

    def refuse_if_full(self, inputs: int, *, bulk: bool, within: float | None) -> None:
        """Raise Overloaded if so many inputs cannot be queued, however short they are.

        Asked before they are prepared, so that a flood of calls costs little.
        """
        if inputs:
            self._schedule.admit(inputs, bulk=bulk, within=within)

    def _work(self) -> None:
        """Compute batch after batch, in a thread of its own."""
        give_way()
        while (batch := self._schedule.next()).entries:
            started = time.monotonic()
            outcomes = self._compute([entry.item for entry in batch.entries])
            seconds = time.monotonic() - started
            self._schedule.done(batch, seconds)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all callers
                self._loop.call_soon_threadsafe(
                    self._deliver, batch.entries, outcomes, started, seconds
                )

    def _deliver(
        self, batch: list[Entry], outcomes: Outcomes, started: float, seconds: float
    ) -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            _deliver(entry, outcome, started, seconds)
        self.metrics.waiting.set(self._schedule.tokens)
        self.metrics.count(batch, started, seconds)
        self.metrics.effort.compute(seconds)

    def _compute(self, items: Sequence[PreparedInput]) -> Outcomes:
        """Compute a batch, each different input once; one that fails fails alone."""
        unique = list({item.key: item for item in items}.values())
        try:
            rows: Outcomes = list(self._model.encode(unique))
        except Exception as error:
            if len(unique) == 1:
                log.exception("the model failed", extra={"model": self._model.info.name})
                rows = [error]
            else:
                rows = [self._compute([item])[0] for item in unique]
        by_key = dict(zip((item.key for item in unique), rows, strict=True))
        return [by_key[item.key] for item in items]


async def _finished(job: Job) -> Computed:
    await job.done
    return Computed(job.rows, job.queued, job.inference)


def _give_up(job: Job) -> None:
    """Let what is left of a call that failed be dropped from the queue."""
    if not job.done.cancel() and not job.done.cancelled():
        job.done.exception()  # seen, so that nobody logs that it was not


def _deliver(entry: Entry, outcome: Rows | Exception, started: float, seconds: float) -> None:
    job = entry.job
    if job.done.done():
        return
    if isinstance(outcome, Exception):
        job.done.set_exception(
            Failure("INFERENCE_FAILED", "The model failed on this input; the log says why.")
        )
        return
    job.rows[entry.number] = outcome
    job.queued = max(job.queued, started - entry.arrived)
    job.inference = max(job.inference, seconds)
    job.left -= 1
    if not job.left:
        job.done.set_result(None)
