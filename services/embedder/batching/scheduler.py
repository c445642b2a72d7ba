"""Whose turn it is: which inputs are let into a model's queue, and which make its next batch.

Interactive inputs go first. While they keep coming, bulk gets one batch in four, and never all
lanes at once: an interactive input that came just then would wait for a whole batch of bulk.
"""

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from services.embedder.batching.queue import Entry, Waiting
from services.embedder.models.model import ModelInfo
from services.errors import Overloaded

BATCH_INPUTS = 256
# Free lanes share what waits. One alone leaves some for the others, who will be free soon, so
# that none does a last large batch while they have nothing. Smaller parts would be less efficient.
LEAST_SHARE = 4
LEAST_ALONE = 16
# Nobody is let in who would spend more than this share of his time in the queue.
MOST_WAIT = 0.5
# While interactive inputs wait, every so many batches one is bulk.
BULK_EVERY = 4


class Batch(NamedTuple):
    """Inputs to compute together; nothing if it is empty."""

    entries: list[Entry]
    bulk: bool


NOTHING = Batch([], False)


class Schedule:
    """The queues of one model. Any thread may call; ``arrived`` wakes lanes that wait.

    Args:
        info: of the model.
        limit: tokens that may wait.
    """

    def __init__(self, info: ModelInfo, limit: int) -> None:
        self._info, self._limit = info, limit
        self._interactive, self._bulk = Waiting(), Waiting()
        self._turn = self._lanes_in_bulk = self._free = 0
        self._last_interactive = 0.0
        self._speed = 5_000.0  # tokens a second of one lane, measured as batches run
        self._arrived = threading.Condition()  # guards all of this
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self._interactive.tokens + self._bulk.tokens

    def age(self) -> float:
        """Return the seconds that the oldest input has waited."""
        with self._arrived:
            oldest = min(self._interactive.oldest, self._bulk.oldest)
        return max(0.0, time.monotonic() - oldest)

    def admit(self, cost: int, *, bulk: bool, within: float | None) -> None:
        """Refuse what the queue has no room for, or what would be computed too late.

        Half of the room is for those who wait for an answer, and bulk is not before them.

        Raises:
            Overloaded: with the time after which to try again.
        """
        limit = self._room(bulk=bulk)
        waiting = self.tokens
        before = waiting if bulk else self._interactive.tokens
        late = within is not None and self._seconds(before) > within * MOST_WAIT
        if waiting and (late or waiting + cost > limit):
            raise Overloaded(
                "QUEUE_FULL",
                "The model has too much to do: try again later.",
                retry_after=max(0.05, self._seconds(waiting)),
                waiting_tokens=waiting,
            )

    def is_full(self, *, bulk: bool) -> bool:
        """Say whether what was let in before should wait until it adds more."""
        return self.tokens >= self._room(bulk=bulk)

    def add(self, entries: Sequence[Entry], *, bulk: bool) -> None:
        """Let inputs wait, and wake as many lanes as they may need."""
        queue = self._bulk if bulk else self._interactive
        with self._arrived:
            for entry in entries:
                queue.add(entry)
            if not bulk:
                self._last_interactive = time.monotonic()
            self._arrived.notify(min(len(entries), self._info.workers))

    def next(self) -> Batch:
        """Wait for a batch; an empty one says that the end has come."""
        with self._arrived:
            self._free += 1
            batch = self._form()
            while not batch.entries and not self._closed:
                # Bulk waits until no more interactive inputs come, of which nobody tells.
                self._arrived.wait(self._bulk_seconds() if self._bulk.inputs else None)
                batch = self._form()
            self._free -= 1
            self._lanes_in_bulk += batch.bulk
            return batch

    def done(self, batch: Batch, seconds: float) -> None:
        """Take note that a lane has computed a batch in so many seconds."""
        with self._arrived:
            self._lanes_in_bulk -= batch.bulk
            tokens = sum(entry.item.cost for entry in batch.entries)
            self._speed += 0.2 * (tokens / seconds - self._speed)

    def close(self) -> None:
        """Let all lanes end."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()

    def _form(self) -> Batch:
        if not self._bulk.inputs or not self._bulk_may_run():
            return self._take(bulk=False)
        if not self._interactive.inputs:
            return self._take(bulk=True)
        self._turn += 1
        first = self._turn % BULK_EVERY == 0
        taken = self._take(bulk=first)
        return taken if taken.entries else self._take(bulk=not first)

    def _take(self, *, bulk: bool) -> Batch:
        queue = self._bulk if bulk else self._interactive
        free, lanes = self._free, self._info.workers
        least, parts = (LEAST_SHARE, free) if free > 1 else (LEAST_ALONE, lanes)
        share = max(least, -(-queue.inputs // parts))
        entries = queue.take(min(BATCH_INPUTS, share), self._info.batch_tokens)
        return Batch(entries, bulk) if entries else NOTHING

    def _bulk_may_run(self) -> bool:
        """Say whether a lane is left for interactive inputs, or none came for a batch's time."""
        quiet = time.monotonic() - self._last_interactive > self._bulk_seconds()
        return quiet or self._info.workers == 1 or self._lanes_in_bulk < self._info.workers - 1

    def _room(self, *, bulk: bool) -> int:
        return self._limit // 2 if bulk else self._limit

    def _bulk_seconds(self) -> float:
        """Return about how long a full batch takes."""
        return self._info.batch_tokens / self._speed

    def _seconds(self, tokens: int) -> float:
        """Return about how long all lanes take for so many tokens."""
        return tokens / self._speed / self._info.workers
