"""A model's queue, in buckets by length, so that batches need little padding."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from services.embedder.models.model import PreparedInput, Vectors
from services.errors import DeadlineExceeded

# Inputs share a bucket if their costs, in tokens, differ by less than this.
_BUCKET_WIDTH = 4


@dataclass(slots=True, eq=False)
class Job:
    """The inputs of one call. ``done`` completes when every vector is computed.

    Attributes:
        vectors: float32 [n, d], filled as batches finish.
        remaining: number of inputs that are not computed yet.
        deadline: deadline on the monotonic clock.
        queue_seconds: longest time that an input was queued.
        inference_seconds: longest time that a batch with one of the inputs took.
    """

    vectors: Vectors
    remaining: int
    done: asyncio.Future[None]
    deadline: float
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0

    def is_over(self, now: float) -> bool:
        """Return whether the job needs no more vectors. A job past its deadline fails.

        Any thread may call it.
        """
        if not self.done.done() and now > self.deadline:
            self.done.get_loop().call_soon_threadsafe(self._expire)
            return True
        return self.done.done()

    def _expire(self) -> None:
        if not self.done.done():
            self.done.set_exception(
                DeadlineExceeded(
                    "DEADLINE_EXCEEDED", "The deadline passed while the input was queued."
                )
            )


@dataclass(slots=True, eq=False)
class Entry:
    """One queued input: item ``index`` of its job; ``enqueued_at`` is on the monotonic clock."""

    job: Job
    index: int
    item: PreparedInput
    enqueued_at: float = field(default_factory=time.monotonic)


class LengthBucketQueue:
    """A first-in, first-out queue for each length bucket. Not thread-safe.

    ``tokens`` and ``inputs`` are the totals of the queue.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, deque[Entry]] = {}
        self.tokens = self.inputs = 0

    def put(self, entry: Entry) -> None:
        """Append an input to its bucket."""
        bucket = self._buckets.setdefault(entry.item.cost // _BUCKET_WIDTH, deque())
        bucket.append(entry)
        self.tokens += entry.item.cost
        self.inputs += 1

    @property
    def oldest_enqueued_at(self) -> float:
        """When the oldest input was queued, on the monotonic clock; infinity for an empty queue."""
        heads = (bucket[0].enqueued_at for bucket in self._buckets.values())
        return min(heads, default=float("inf"))

    def take(self, max_inputs: int, max_tokens: int) -> list[Entry]:
        """Remove and return the oldest input and the inputs nearest to it in length.

        It drops entries whose job is over.

        Args:
            max_inputs: maximum number of inputs to take.
            max_tokens: maximum number of tokens in the batch, including padding. A single input may
                have more.
        """
        now = time.monotonic()
        for bucket in list(self._buckets):
            self._drop_finished(bucket, now)
        if not self._buckets:
            return []
        oldest = min(self._buckets, key=lambda bucket: self._buckets[bucket][0].enqueued_at)
        taken, longest = list[Entry](), 0
        for bucket in sorted(self._buckets, key=lambda bucket: abs(bucket - oldest)):
            while bucket in self._buckets and len(taken) < max_inputs:
                cost = max(longest, self._buckets[bucket][0].item.cost)
                if taken and cost * (len(taken) + 1) > max_tokens:
                    break
                taken.append(self._pop(bucket))
                longest = cost
                self._drop_finished(bucket, now)
        return taken

    def _pop(self, bucket: int) -> Entry:
        entry = self._buckets[bucket].popleft()
        if not self._buckets[bucket]:
            del self._buckets[bucket]
        self.tokens -= entry.item.cost
        self.inputs -= 1
        return entry

    def _drop_finished(self, bucket: int, now: float) -> None:
        """Drop the entries at the head of a bucket whose job is over."""
        while bucket in self._buckets and self._buckets[bucket][0].job.is_over(now):
            self._pop(bucket)
