"""Where the time of a question goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace


@dataclass
class Timings:
    """Seconds by stage."""

    cache: float = 0.0
    embed: float = 0.0
    search: float = 0.0
    arrange: float = 0.0
    rerank: float = 0.0
    generate: float = 0.0
    total: float = 0.0
    begun: float = field(default_factory=time.perf_counter)

    def ended(self) -> "Timings":
        """Return these at the end of the call."""
        return replace(self, total=time.perf_counter() - self.begun)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of what runs inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)
