"""Until when what runs now must be done: the deadline of the call it is part of."""

import contextlib
import contextvars
import time
from typing import Any

from services.errors import DeadlineExceeded

DEFAULT_DEADLINE = 30.0
LONG_DEADLINE = 300.0
LONG_CALLS = (
    *("Ask", "StreamAsk", "Complete", "StreamComplete", "IngestDocuments", "EmbedStream"),
    *("Calibrate", "CalibrateRefusals", "Reindex", "UpdateCollection", "UpsertStream"),
    *("MeasureRecall", "TuneIndex", "ExportCollection", "ImportCollection"),
)

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)


def begin(seconds: float) -> None:
    """Set the deadline of what runs from here on in this task."""
    _deadline.set(time.monotonic() + seconds)


def has_passed() -> bool:
    """Say whether there is a deadline, and it has passed."""
    deadline = _deadline.get()
    return deadline is not None and time.monotonic() > deadline


def late() -> DeadlineExceeded:
    """Return what to tell whose deadline has passed."""
    return DeadlineExceeded("DEADLINE_EXCEEDED", "The call's deadline has passed.")


def time_left(margin: float = 0.01) -> float | None:
    """Return the seconds an outgoing call may take, so that it never outlives its caller's call.

    Outside of a call there is no limit. ``margin`` leaves time to pass the answer on.

    Raises:
        DeadlineExceeded: no time is left.
    """
    deadline = _deadline.get()
    if deadline is None:
        return None
    left = deadline - time.monotonic() - margin
    if left <= 0:
        raise late()
    return left


@contextlib.contextmanager
def within(seconds: float) -> Any:
    """Give what runs inside a deadline, as a gRPC call has one (for other faces)."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)
