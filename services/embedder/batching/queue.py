"""What waits for a model, by length, so that a batch is little padded."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.embedder.models.model import PreparedInput
from services.errors import DeadlineExceeded

# Inputs whose costs differ by less stand in one line.
_STEP = 4
Rows = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Job:
    """One caller's inputs: done when every row is there; times are seconds."""

    rows: Rows
    left: int
    done: asyncio.Future[None]
    deadline: float
    queued: float = 0.0
    inference: float = 0.0

    def is_dead(self, now: float) -> bool:
        """Say whether nobody waits for it; tell a caller whose time is up. Any thread may ask."""
        if not self.done.done() and now > self.deadline:
            self.done.get_loop().call_soon_threadsafe(self._refuse)
            return True
        return self.done.done()

    def _refuse(self) -> None:
        if not self.done.done():
            self.done.set_exception(
                DeadlineExceeded("DEADLINE_EXCEEDED", "The deadline passed in the queue.")
            )


@dataclass(slots=True, eq=False)
class Entry:
    """One input in the queue."""

    job: Job
    number: int
    item: PreparedInput
    arrived: float = field(default_factory=time.monotonic)


class Waiting:
    """A queue in lines of like length; ``tokens`` and ``inputs`` count what is in it.

    For one thread at a time.
    """

    def __init__(self) -> None:
        self._lines: dict[int, deque[Entry]] = {}
        self.tokens = self.inputs = 0

    def add(self, entry: Entry) -> None:
        """Put an input at the end of its line."""
        line = self._lines.setdefault(entry.item.cost // _STEP, deque())
        line.append(entry)
        self.tokens += entry.item.cost
        self.inputs += 1

    @property
    def oldest(self) -> float:
        """When the oldest input came, on the monotonic clock; infinity if none waits."""
        return min((line[0].arrived for line in self._lines.values()), default=float("inf"))

    def take(self, most: int, budget: int) -> list[Entry]:
        """Take the oldest input and those most like it in length.

        Args:
            most: inputs.
            budget: tokens, padding counted in; one input may have more.
        """
        now = time.monotonic()
        for line in list(self._lines):
            self._drop_dead(line, now)
        if not self._lines:
            return []
        oldest = min(self._lines, key=lambda line: self._lines[line][0].arrived)
        taken, longest = list[Entry](), 0
        for line in sorted(self._lines, key=lambda line: abs(line - oldest)):
            while line in self._lines and len(taken) < most:
                cost = max(longest, self._lines[line][0].item.cost)
                if taken and cost * (len(taken) + 1) > budget:
                    break
                taken.append(self._pop(line))
                longest = cost
                self._drop_dead(line, now)
        return taken

    def _pop(self, line: int) -> Entry:
        entry = self._lines[line].popleft()
        if not self._lines[line]:
            del self._lines[line]
        self.tokens -= entry.item.cost
        self.inputs -= 1
        return entry

    def _drop_dead(self, line: int, now: float) -> None:
        """Drop those at the head of a line that nobody waits for any more."""
        while line in self._lines and self._lines[line][0].job.is_dead(now):
            self._pop(line)
