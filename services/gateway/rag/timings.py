"""The time that each stage of an answer takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace


@dataclass
class Timings:
    """Seconds spent in each stage; ``total`` is set at the end of the call."""

    cache: float = 0.0
    embed: float = 0.0
    search: float = 0.0
    rank: float = 0.0
    rerank: float = 0.0
    generate: float = 0.0
    total: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def finished(self) -> "Timings":
        """Return these timings with the time since the start as ``total``."""
        return replace(self, total=self.elapsed)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the duration of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)
