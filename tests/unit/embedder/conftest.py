import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _thawed_heap() -> Iterator[None]:
    """Undo what a registry does to the garbage collector after it loads a model."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
