"""Keeps Python's garbage collector away from loaded models.

Models and their libraries are a million objects that stay. Scanning them repeatedly took a tenth of
a busy service's processor time.
"""

import contextlib
import gc
from collections.abc import Iterator

# New objects after which the collector scans the youngest generation. A call creates many
# short-lived objects, and exceeds Python's default of 700 before its batch is answered.
_THRESHOLD = 20_000


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Disable automatic collection while the block runs."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def freeze() -> None:
    """Collect garbage, then exclude every remaining object from later collections.

    See https://docs.python.org/3/library/gc.html#gc.freeze.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_THRESHOLD)
