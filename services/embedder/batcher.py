"""Joins the inputs of all callers into batches, while the model is busy with those before.

One queue for each model, and a thread for each batch that it computes at once. There is no timer:
a thread that is free takes what waits, alike in length so that little is padded, up to the
model's budget of tokens. It does not ask the event loop, which may be busy with the callers of the
batch before. Interactive inputs go first; while they keep coming, bulk gets one batch
in four. What was cancelled or is past its deadline is dropped, the
same input twice in a batch is computed once, and what cannot be queued is refused at the door.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from services.embedder.metrics import Metrics
from services.embedder.models.model import Model, Prepared
from services.embedder.waiting import Entry, Job, Rows, Waiting
from services.errors import Failure, Overloaded

log = logging.getLogger(__name__)

BATCH_INPUTS = 256
# Free threads share what waits. One alone leaves some for the others, who will be free soon, so
# that none does a last large batch while they have nothing. Smaller parts would be less efficient.
LEAST_SHARE = 4
LEAST_ALONE = 16
# Nobody is let in who would spend more than this share of his time in the queue.
MOST_WAIT = 0.5
# While interactive inputs keep coming, every so many batches one is bulk.
BULK_EVERY = 4


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
        self._limit = queue_tokens
        self._interactive, self._bulk = Waiting(), Waiting()
        self._turn = 0
        self._lanes = model.card.lanes
        self._speed = 5_000.0  # tokens a second of one worker, measured as batches run
        self.metrics = Metrics(model.card, self._age)
        self._arrived = threading.Condition()  # guards the queues
        self._closed, self._free = False, 0  # free threads

    async def __aenter__(self) -> "Batcher":
        self._loop = asyncio.get_running_loop()
        name = f"model-{self._model.card.name}"[:40]
        self._threads = [threading.Thread(target=self._work, name=name) for _ in range(self._lanes)]
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    async def submit(
        self, items: Sequence[Prepared], *, bulk: bool = False, within: float | None = None
    ) -> Computed:
        """Compute the vectors of inputs, in their order; see ``submit_parts``."""
        self._admit(sum(item.cost for item in items), bulk=bulk, within=within)
        job = self._job(len(items), within)
        self._queue(job, 0, items, bulk=bulk)
        return await _finished(job)

    async def submit_parts(
        self,
        parts: Iterable[Awaitable[Sequence[Prepared]]],
        count: int,
        *,
        bulk: bool = False,
        within: float | None = None,
    ) -> Computed:
        """Compute the vectors of ``count`` inputs, the first while the last are being prepared.

        Raises:
            Overloaded: too much waits already; with the time after which to try again.
            DeadlineExceeded: ``within`` seconds passed before they were computed.
        """
        job, first = self._job(count, within), 0
        try:
            for part in parts:
                items = await part
                if not job.done.done():
                    self._admit(sum(item.cost for item in items), bulk=bulk, within=within)
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
            rows=np.empty((count, self._model.card.dimensions), np.float32),
            left=count,
            done=done,
            deadline=float("inf") if within is None else time.monotonic() + within,
        )

    def _queue(self, job: Job, first: int, items: Sequence[Prepared], *, bulk: bool) -> None:
        queue, now = self._bulk if bulk else self._interactive, time.monotonic()
        entries = [Entry(job, number, item, now) for number, item in enumerate(items, first)]
        with self._arrived:
            for entry in entries:
                queue.add(entry)
            self._arrived.notify(min(len(entries), self._lanes))

    def refuse_if_full(self, inputs: int, *, bulk: bool, within: float | None) -> None:
        """Raise Overloaded if so many inputs cannot be queued, however short they are.

        Asked before they are prepared, so that a flood of calls costs little.
        """
        if inputs:
            self._admit(inputs, bulk=bulk, within=within)

    def _admit(self, cost: int, *, bulk: bool, within: float | None) -> None:
        """Refuse what the queue has no room for, or what would be computed too late.

        Half of the room is for those who wait for an answer, and bulk is not before them.
        """
        limit = self._limit // 2 if bulk else self._limit
        waiting = self._interactive.tokens + self._bulk.tokens
        before = waiting if bulk else self._interactive.tokens
        wait = before / self._speed / self._lanes
        late = within is not None and wait > within * MOST_WAIT
        if waiting and (late or waiting + cost > limit):
            raise Overloaded(
                "QUEUE_FULL",
                "The model has too much to do: try again later.",
                retry_after=max(0.05, waiting / self._speed / self._lanes),
                waiting_tokens=waiting,
            )

    def _work(self) -> None:
        """Compute batch after batch, in a thread of its own."""
        while batch := self._next():
            started = time.monotonic()
            outcomes = self._compute([entry.item for entry in batch])
            seconds = time.monotonic() - started
            self._speed += 0.2 * (sum(e.item.cost for e in batch) / seconds - self._speed)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all callers
                self._loop.call_soon_threadsafe(self._deliver, batch, outcomes, started, seconds)

    def _next(self) -> list[Entry]:
        """Wait for a batch; an empty one says that the end has come."""
        with self._arrived:
            self._free += 1
            batch = self._form()
            while not batch and not self._closed:
                self._arrived.wait()
                batch = self._form()
            self._free -= 1
            return batch

    def _deliver(
        self, batch: list[Entry], outcomes: Outcomes, started: float, seconds: float
    ) -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            _deliver(entry, outcome, started, seconds)
        self.metrics.waiting.set(self._interactive.tokens + self._bulk.tokens)
        self.metrics.count(batch, started, seconds)
        self.metrics.effort.compute(seconds)

    def _form(self) -> list[Entry]:
        """Take the next batch out of the queues."""
        if self._interactive.inputs and self._bulk.inputs:
            self._turn += 1
            bulk_first = self._turn % BULK_EVERY == 0
        else:
            bulk_first = bool(self._bulk.inputs)
        queues = (self._bulk, self._interactive) if bulk_first else (self._interactive, self._bulk)
        return self._take(queues[0]) or self._take(queues[1])

    def _take(self, queue: Waiting) -> list[Entry]:
        least, parts = (LEAST_SHARE, self._free) if self._free > 1 else (LEAST_ALONE, self._lanes)
        share = max(least, -(-queue.inputs // parts))
        return queue.take(min(BATCH_INPUTS, share), self._model.card.batch_tokens)

    def _age(self) -> float:
        """Return the seconds that the oldest input has waited; any thread may ask."""
        with self._arrived:
            oldest = min(self._interactive.oldest, self._bulk.oldest)
        return max(0.0, time.monotonic() - oldest)

    def _compute(self, items: Sequence[Prepared]) -> Outcomes:
        """Compute a batch, each different input once; one that fails fails alone."""
        unique = list({item.key: item for item in items}.values())
        try:
            rows: Outcomes = list(self._model.encode(unique))
        except Exception as error:
            if len(unique) == 1:
                log.exception("the model failed", extra={"model": self._model.card.name})
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
