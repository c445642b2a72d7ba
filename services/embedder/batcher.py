"""Joins the inputs of all callers into batches, while the model is busy with those before.

One queue for each model, and a worker for each batch that it computes at once. There is no timer:
when a worker is free, it takes what waits, sorted by length so that little is padded, up to the
model's budget of tokens. Interactive inputs go first; while they keep coming, bulk gets one batch
in four. What was cancelled or is past its deadline is dropped, the
same input twice in a batch is computed once, and what cannot be queued is refused at the door.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.embedder.metrics import Metrics
from services.embedder.models.model import Model, Prepared
from services.errors import DeadlineExceeded, Failure, Overloaded

log = logging.getLogger(__name__)

BATCH_INPUTS = 256
# So many of the oldest inputs are sorted by length.
WINDOW = 512
# Free workers share what waits, but not in smaller parts than this.
LEAST_SHARE = 4
# Nobody is let in who would spend more than this share of his time in the queue.
MOST_WAIT = 0.5
# While interactive inputs keep coming, every so many batches one is bulk.
BULK_EVERY = 4
Rows = NDArray[np.float32]


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
        self._waiting = self._waiting_bulk = 0  # tokens; the second is a part of the first
        self._turn = 0
        self._lanes = self._idle = model.card.lanes
        self._speed = 5_000.0  # tokens a second of one worker, measured as batches run
        self.metrics = Metrics(model.card)
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(self._lanes, f"model-{model.card.name}"[:40])

    async def __aenter__(self) -> "Batcher":
        self._workers = [asyncio.create_task(self._run()) for _ in range(self._lanes)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._thread.shutdown(wait=True)

    async def submit(
        self, items: Sequence[Prepared], *, bulk: bool = False, within: float | None = None
    ) -> Computed:
        """Compute the vectors of inputs, in their order.

        Raises:
            Overloaded: too much waits already; with the time after which to try again.
            DeadlineExceeded: ``within`` seconds passed before they were computed.
        """
        if not items:
            return Computed(np.empty((0, self._model.card.dimensions), np.float32), 0, 0)
        self._admit(sum(item.cost for item in items), bulk=bulk, within=within)
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
            self._count(queue, item.cost)
        self._arrived.set()
        await job.done
        return Computed(job.rows, job.queued, job.inference)

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
        before = self._waiting if bulk else self._waiting - self._waiting_bulk
        wait = before / self._speed / self._lanes
        late = within is not None and wait > within * MOST_WAIT
        if self._waiting and (late or self._waiting + cost > limit):
            raise Overloaded(
                "QUEUE_FULL",
                "The model has too much to do: try again later.",
                retry_after=max(0.05, self._waiting / self._speed / self._lanes),
                waiting_tokens=self._waiting,
            )

    def _count(self, queue: deque[_Entry], tokens: int) -> None:
        """Count tokens that came into a queue, or (below zero) left it."""
        self._waiting += tokens
        if queue is self._bulk:
            self._waiting_bulk += tokens

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._form()
            self.metrics.waiting.set(self._waiting)
            if not batch:
                self._arrived.clear()
                continue
            self._idle -= 1
            try:
                started = time.monotonic()
                outcomes = await loop.run_in_executor(
                    self._thread, self._compute, [entry.item for entry in batch]
                )
            finally:
                self._idle += 1
            seconds = time.monotonic() - started
            self._speed += 0.2 * (sum(e.item.cost for e in batch) / seconds - self._speed)
            for entry, outcome in zip(batch, outcomes, strict=True):
                _deliver(entry, outcome, started, seconds)
            self.metrics.count(batch, started, seconds)

    def _form(self) -> list[_Entry]:
        """Take the next batch out of the queues."""
        if self._interactive and self._bulk:
            self._turn += 1
            bulk_first = self._turn % BULK_EVERY == 0
        else:
            bulk_first = bool(self._bulk)
        queues = (self._bulk, self._interactive) if bulk_first else (self._interactive, self._bulk)
        return self._take(queues[0]) or self._take(queues[1])

    def _take(self, queue: deque[_Entry]) -> list[_Entry]:
        """Take the oldest entry and those most like it in length, within the budget of tokens."""
        oldest = self._window(queue)
        if not oldest:
            return []
        most = min(BATCH_INPUTS, max(LEAST_SHARE, -(-len(oldest) // self._idle)))
        window = sorted(oldest, key=lambda entry: entry.item.cost)
        first = last = window.index(oldest[0])
        while last - first + 1 < most:
            if last + 1 < len(window) and self._fits(window, first, last + 1):
                last += 1
            elif first and self._fits(window, first - 1, last):
                first -= 1
            else:
                break
        taken = window[first : last + 1]
        chosen = set(taken)
        queue.extendleft(entry for entry in reversed(oldest) if entry not in chosen)
        self._count(queue, -sum(entry.item.cost for entry in taken))
        return taken

    def _window(self, queue: deque[_Entry]) -> list[_Entry]:
        """Take the oldest entries out of a queue, and drop those that nobody waits for."""
        now, window = time.monotonic(), list[_Entry]()
        while queue and len(window) < WINDOW:
            entry = queue.popleft()
            if entry.job.is_dead(now):
                self._count(queue, -entry.item.cost)
            else:
                window.append(entry)
        return window

    def _fits(self, window: Sequence[_Entry], first: int, last: int) -> bool:
        tokens = (last - first + 1) * window[last].item.cost
        return tokens <= self._model.card.batch_tokens

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
