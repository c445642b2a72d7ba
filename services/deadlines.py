"""The deadline of the current call, which applies to everything that runs as part of the call."""

import contextlib
import contextvars
import time
from collections.abc import Iterator

from services.errors import DeadlineExceeded

DEFAULT_DEADLINE = 30.0
LONG_DEADLINE = 300.0
LONG_CALLS = (
    *("Ask", "StreamAsk", "Complete", "StreamComplete", "IngestDocuments", "EmbedStream"),
    *(
        "Calibrate",
        "CalibrateRefusals",
        "LoadEntries",
        "Reindex",
        "UpdateCollection",
        "UpsertStream",
    ),
    *("MeasureRecall", "TuneIndex", "ExportCollection", "ImportCollection"),
)
# A health Watch or a reflection stream may last as long as its caller wants.
_UNLIMITED = ("/grpc.health.", "/grpc.reflection.")

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)


def default_timeout(method: str) -> float | None:
    """Return the timeout in seconds of a call that has no deadline; None means no limit.

    Args:
        method: full method name, for example ``/memetwin.search.v1.SearchService/Search``.
    """
    if method.startswith(_UNLIMITED):
        return None
    return LONG_DEADLINE if method.rpartition("/")[2] in LONG_CALLS else DEFAULT_DEADLINE


def start(seconds: float) -> None:
    """Set the deadline of the rest of this task."""
    _deadline.set(time.monotonic() + seconds)


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Set the deadline of the block, as a gRPC call sets one. The block is not cancelled."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def expired() -> bool:
    """Return whether there is a deadline and it has passed."""
    deadline = _deadline.get()
    return deadline is not None and time.monotonic() > deadline


def exceeded() -> DeadlineExceeded:
    """Return the failure of a call whose deadline has passed."""
    return DeadlineExceeded("DEADLINE_EXCEEDED", "The deadline of the call has passed.")


def time_left(margin: float = 0.01) -> float | None:
    """Return the timeout in seconds for an outgoing call, so that it ends before its caller's call.

    Args:
        margin: seconds to reserve for forwarding the response.

    Returns:
        The seconds until the deadline, less the margin; None outside of a call.

    Raises:
        DeadlineExceeded: no time is left.
    """
    deadline = _deadline.get()
    if deadline is None:
        return None
    left = deadline - time.monotonic() - margin
    if left <= 0:
        raise exceeded()
    return left
