from collections.abc import Hashable

import numpy as np

from services.embedder.models.model import PreparedInput
from services.embedder.vector_cache import Memory, keys


def keep(memory: Memory, key: Hashable, number: float, dimensions: int = 128) -> None:
    row = np.full(dimensions, number, np.float32)
    memory.keep({key: row}, {key: PreparedInput([], 3, 3, False, key)})


def test_what_was_kept_is_recalled_whole() -> None:
    memory = Memory(10_000)
    one, other = keys("digest", "", ["one", "other"])
    keep(memory, one, 1)
    assert memory.recall([one, other]) == {one: memory.recall([one])[one]}
    assert memory.recall([one])[one].row.tolist() == [1] * 128


def test_it_never_takes_more_bytes_than_it_may_and_forgets_what_lay_idle() -> None:
    memory = Memory(4096)
    names = keys("digest", "", [str(number) for number in range(100)])
    keep(memory, names[0], 0)
    for name in names[1:]:
        keep(memory, name, 1)
        memory.recall([names[0]])
        assert memory.size <= 4096
    assert set(memory.recall(names)) == {names[0], *names[-3:]}


def test_what_is_too_large_is_not_kept() -> None:
    memory = Memory(1024)
    [name] = keys("digest", "", ["one"])
    keep(memory, name, 1, 1000)
    assert not memory.recall([name])


def test_keys_tell_apart_model_task_and_kind() -> None:
    found = [
        *keys("one", "", ["a", b"a", "b"]),
        *keys("other", "", ["a"]),
        *keys("one", "query", ["a"]),
    ]
    assert len(set(found)) == len(found)
    assert keys("one", "", ["a"])[0] == found[0]
