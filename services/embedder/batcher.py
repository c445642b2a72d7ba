"""Joins the inputs of all callers into batches, while the model is busy with the one before.

One queue for each model. There is no timer: when the model is free, what waits is taken, sorted by
length so that little is padded, up to a budget of tokens. Interactive inputs go first; while they
keep coming, bulk gets one batch in four. What was cancelled or is past its deadline is dropped, the
same input twice in a batch is computed once, and what cannot be queued is refused at the door.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge, Histogram

from services.embedder.models.model import Model, Prepared
from services.errors import DeadlineExceeded, Failure, Overloaded

log = logging.getLogger(__name__)

BATCH_TOKENS = 8192
BATCH_INPUTS = 256
WINDOW = 1024
# While interactive inputs keep coming, every so many batches one is bulk.
BULK_EVERY = 4
Rows = NDArray[np.float32]

WAITING = Gauge("memetwin_queue_tokens", "Tokens that wait for a model.", ["model"])
SIZE = Histogram(
    "memetwin_batch_inputs", "Inputs of a batch.", ["model"], buckets=[2**n for n in range(9)]
)
_SECONDS = [0.0005 * 2**step for step in range(15)]
QUEUE = Histogram("memetwin_queue_seconds", "Seconds an input waited.", ["model"], buckets=_SECONDS)
INFERENCE = Histogram(
    "memetwin_inference_seconds", "Seconds a batch took.", ["model"], buckets=_SECONDS
)


@dataclass
class _Job:
    """One caller's inputs: done when every row is there; times are seconds."""

    rows: Rows
    left: int
    done: asyncio.Future[None]
    deadline: float
    queued: float = 0.0
    inference: float = 0.0

    def is_dead(self, now: float) -> bool:
        """Say whether nobody waits for it; tell a caller whose time is up."""
        if not self.done.done() and now > self.deadline:
            self.done.set_exception(
                DeadlineExceeded("DEADLINE_EXCEEDED", "The deadline passed in the queue.")
            )
        return self.done.done()


@dataclass(eq=False)
class _Entry:
    """One input in the queue."""

    job: _Job
    number: int
    item: Prepared
    arrived: float = field(default_factory=time.monotonic)


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
        self._interactive: deque[_Entry] = deque()
        self._bulk: deque[_Entry] = deque()
        self._waiting = 0
        self._turn = 0
        self._speed = 5_000.0  # tokens a second, measured as batches run
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, f"model-{model.card.name}"[:40])

    async def __aenter__(self) -> "Batcher":
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop
        self._thread.shutdown(wait=True)

    async def submit(
        self, items: Sequence[Prepared], *, bulk: bool = False, within: float | None = None
    ) -> Computed:
        """Compute the vectors of inputs, in their order.

        Raises:
            Overloaded: too much waits already; with the time after which to try again.
            DeadlineExceeded: ``within`` seconds passed before they were computed.
        """
        self._admit(sum(item.cost for item in items), bulk=bulk)
        now = time.monotonic()
        job = _Job(
            rows=np.empty((len(items), self._model.card.dimensions), np.float32),
            left=len(items),
            done=asyncio.get_running_loop().create_future(),
            deadline=float("inf") if within is None else now + within,
        )
        queue = self._bulk if bulk else self._interactive
        for number, item in enumerate(items):
            queue.append(_Entry(job, number, item, now))
            self._waiting += item.cost
        self._arrived.set()
        await job.done
        return Computed(job.rows, job.queued, job.inference)

    def _admit(self, cost: int, *, bulk: bool) -> None:
        """Refuse what the queue has no room for; half of it is for those who wait for an answer."""
        limit = self._limit // 2 if bulk else self._limit
        if self._waiting and self._waiting + cost > limit:
            raise Overloaded(
                "QUEUE_FULL",
                "The model has too much to do: try again later.",
                retry_after=max(0.05, self._waiting / self._speed),
                waiting_tokens=self._waiting,
            )

    async def _run(self) -> None:
        loop, name = asyncio.get_running_loop(), self._model.card.name
        while True:
            await self._arrived.wait()
            batch = self._form()
            WAITING.labels(name).set(self._waiting)
            if not batch:
                self._arrived.clear()
                continue
            started = time.monotonic()
            outcomes = await loop.run_in_executor(
                self._thread, self._compute, [entry.item for entry in batch]
            )
            seconds = time.monotonic() - started
            self._speed += 0.2 * (sum(e.item.cost for e in batch) / seconds - self._speed)
            SIZE.labels(name).observe(len(batch))
            INFERENCE.labels(name).observe(seconds)
            for entry, outcome in zip(batch, outcomes, strict=True):
                _deliver(entry, outcome, started, seconds)
                QUEUE.labels(name).observe(started - entry.arrived)

    def _form(self) -> list[_Entry]:
        """Take the next batch out of the queues."""
        self._drop_dead()
        if self._interactive and self._bulk:
            self._turn += 1
            return self._take(self._interactive if self._turn % BULK_EVERY else self._bulk)
        return self._take(self._interactive or self._bulk)

    def _take(self, queue: deque[_Entry]) -> list[_Entry]:
        """Take the oldest entry and those most like it in length, within the budget of tokens."""
        if not queue:
            return []
        oldest = queue[0]
        window = sorted(itertools.islice(queue, WINDOW), key=lambda entry: entry.item.cost)
        first = last = window.index(oldest)
        while last - first + 1 < BATCH_INPUTS:
            if last + 1 < len(window) and _fits(window, first, last + 1):
                last += 1
            elif first and _fits(window, first - 1, last):
                first -= 1
            else:
                break
        taken = window[first : last + 1]
        chosen = set(map(id, taken))
        kept = [entry for entry in queue if id(entry) not in chosen]
        queue.clear()
        queue.extend(kept)
        self._waiting -= sum(entry.item.cost for entry in taken)
        return taken

    def _drop_dead(self) -> None:
        now = time.monotonic()
        for queue in (self._interactive, self._bulk):
            alive = [entry for entry in queue if not entry.job.is_dead(now)]
            if len(alive) < len(queue):
                dropped = sum(entry.item.cost for entry in queue)
                self._waiting -= dropped - sum(entry.item.cost for entry in alive)
                queue.clear()
                queue.extend(alive)

    def _compute(self, items: Sequence[Prepared]) -> list[Rows | Exception]:
        """Compute a batch, each different input once; one that fails fails alone."""
        unique = list({item.key: item for item in items}.values())
        try:
            rows: Sequence[Rows | Exception] = list(self._model.encode(unique))
        except Exception as error:
            if len(unique) == 1:
                log.exception("the model failed", extra={"model": self._model.card.name})
                rows = [error]
            else:
                rows = [self._compute([item])[0] for item in unique]
        by_key = dict(zip((item.key for item in unique), rows, strict=True))
        return [by_key[item.key] for item in items]


def _fits(window: Sequence[_Entry], first: int, last: int) -> bool:
    return (last - first + 1) * window[last].item.cost <= BATCH_TOKENS


def _deliver(entry: _Entry, outcome: Rows | Exception, started: float, seconds: float) -> None:
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
