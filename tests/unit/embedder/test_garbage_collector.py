import gc

import pytest

from services.embedder import garbage_collector


class Loop:
    """An object that refers to itself, so only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


def exists(kind: type) -> bool:
    return any(type(one) is kind for one in gc.get_objects())


def test_frozen_objects_are_not_scanned() -> None:
    kept = Loop()
    assert exists(Loop)
    garbage_collector.freeze()
    assert not exists(Loop)
    assert kept.itself is kept
    gc.unfreeze()
    assert exists(Loop)


def test_garbage_is_collected_before_freezing() -> None:
    class Garbage(Loop):
        pass

    Garbage()
    garbage_collector.freeze()
    gc.unfreeze()
    assert not exists(Garbage)


def test_collection_is_paused_and_resumed_after_an_error() -> None:
    with pytest.raises(KeyError), garbage_collector.paused():  # noqa: PT012
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
