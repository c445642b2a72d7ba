"""Decides which inputs a model admits to its queue, and which inputs form the next batch.

Interactive inputs have priority. While they keep arriving, one batch in four is bulk, and one
worker never takes bulk. Otherwise the next interactive input would wait for a whole bulk batch.
"""

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from services.embedder.batching.queue import Entry, LengthBucketQueue
from services.embedder.models.model import ModelInfo
from services.errors import Overloaded

MAX_BATCH_INPUTS = 256
# Idle workers share the queued inputs equally. A single idle worker leaves inputs for the workers
# that will soon be idle too, so that no worker computes a large last batch by itself. Smaller
# batches would be inefficient.
MIN_BATCH_SEVERAL_IDLE = 4
MIN_BATCH_ONE_IDLE = 16
# A call that would spend more than this share of its timeout in the queue is refused.
MAX_QUEUE_TIME_SHARE = 0.5
# While interactive inputs are queued, one batch in this many is bulk.
BULK_BATCH_INTERVAL = 4
_MIN_RETRY_SECONDS = 0.05
# Weight of the last batch in the moving average of a worker's speed.
_SPEED_SMOOTHING = 0.2


class Batch(NamedTuple):
    """Inputs to compute together."""

    entries: list[Entry]
    bulk: bool


EMPTY_BATCH = Batch([], bulk=False)


class Scheduler:
    """The two queues of one model. Thread-safe.

    Args:
        info: describes the model.
        max_queue_tokens: tokens that the queues hold together.
    """

    def __init__(self, info: ModelInfo, max_queue_tokens: int) -> None:
        self._info, self._max_queue_tokens = info, max_queue_tokens
        self._interactive, self._bulk = LengthBucketQueue(), LengthBucketQueue()
        self._mixed_batches = self._bulk_workers = self._idle_workers = 0
        self._last_interactive_at = 0.0
        self._tokens_per_second = 5_000.0  # speed of one worker, measured as batches run
        self._changed = threading.Condition()  # guards all of the above
        self._closed = False

    @property
    def queue_tokens(self) -> int:
        """Tokens in both queues."""
        return self._interactive.tokens + self._bulk.tokens

    def queue_age(self) -> float:
        """Return for how many seconds the oldest input has been queued."""
        with self._changed:
            oldest = min(self._interactive.oldest_enqueued_at, self._bulk.oldest_enqueued_at)
        return max(0.0, time.monotonic() - oldest)

    def check_admission(self, tokens: int, *, bulk: bool, timeout: float | None) -> None:
        """Refuse inputs that do not fit into the queue, or that would be computed too late.

        Bulk may fill half of the queue. Interactive inputs wait only for interactive inputs.

        Raises:
            Overloaded: the inputs are refused; it carries a retry delay.
        """
        queued = self.queue_tokens
        ahead = queued if bulk else self._interactive.tokens
        too_late = timeout is not None and self._seconds_for(ahead) > timeout * MAX_QUEUE_TIME_SHARE
        if queued and (too_late or queued + tokens > self._capacity(bulk=bulk)):
            raise Overloaded(
                "QUEUE_FULL",
                "The model's queue is full. Retry after the delay in RetryInfo.",
                retry_after=max(_MIN_RETRY_SECONDS, self._seconds_for(queued)),
                queue_tokens=queued,
            )

    def is_full(self, *, bulk: bool) -> bool:
        """Return whether an admitted call should wait before it queues more inputs."""
        return self.queue_tokens >= self._capacity(bulk=bulk)

    def put(self, entries: Sequence[Entry], *, bulk: bool) -> None:
        """Queue inputs, and wake as many workers as they can occupy."""
        queue = self._bulk if bulk else self._interactive
        with self._changed:
            for entry in entries:
                queue.put(entry)
            if not bulk:
                self._last_interactive_at = time.monotonic()
            self._changed.notify(min(len(entries), self._info.workers))

    def next_batch(self) -> Batch:
        """Wait for a batch; an empty one means that the scheduler is closed."""
        with self._changed:
            self._idle_workers += 1
            batch = self._form_batch()
            while not batch.entries and not self._closed:
                # Bulk waits until no interactive input has arrived for a while; nothing signals
                # that.
                self._changed.wait(self._batch_seconds() if self._bulk.inputs else None)
                batch = self._form_batch()
            self._idle_workers -= 1
            self._bulk_workers += batch.bulk
            return batch

    def record_batch(self, batch: Batch, seconds: float) -> None:
        """Record that a worker has computed a batch in ``seconds``."""
        with self._changed:
            self._bulk_workers -= batch.bulk
            speed = sum(entry.item.cost for entry in batch.entries) / seconds
            self._tokens_per_second += _SPEED_SMOOTHING * (speed - self._tokens_per_second)

    def close(self) -> None:
        """Make ``next_batch`` return an empty batch once no queued input may run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _form_batch(self) -> Batch:
        if not self._bulk.inputs or not self._may_run_bulk():
            return self._take(bulk=False)
        if not self._interactive.inputs:
            return self._take(bulk=True)
        self._mixed_batches += 1
        bulk_first = self._mixed_batches % BULK_BATCH_INTERVAL == 0
        batch = self._take(bulk=bulk_first)
        return batch if batch.entries else self._take(bulk=not bulk_first)

    def _take(self, *, bulk: bool) -> Batch:
        queue = self._bulk if bulk else self._interactive
        if self._idle_workers > 1:
            smallest, shares = MIN_BATCH_SEVERAL_IDLE, self._idle_workers
        else:
            smallest, shares = MIN_BATCH_ONE_IDLE, self._info.workers
        share = max(smallest, -(-queue.inputs // shares))
        entries = queue.take(min(MAX_BATCH_INPUTS, share), self._info.batch_tokens)
        return Batch(entries, bulk) if entries else EMPTY_BATCH

    def _may_run_bulk(self) -> bool:
        """Return whether another worker stays free, or no interactive input arrived recently."""
        quiet = time.monotonic() - self._last_interactive_at > self._batch_seconds()
        return quiet or self._info.workers == 1 or self._bulk_workers < self._info.workers - 1

    def _capacity(self, *, bulk: bool) -> int:
        return self._max_queue_tokens // 2 if bulk else self._max_queue_tokens

    def _batch_seconds(self) -> float:
        """Return about how long one worker takes for a full batch."""
        return self._info.batch_tokens / self._tokens_per_second

    def _seconds_for(self, tokens: int) -> float:
        """Return about how long all workers together take for ``tokens``."""
        return tokens / self._tokens_per_second / self._info.workers
