from collections.abc import Hashable

import numpy as np

from services.embedder.models.model import PreparedInput
from services.embedder.models.reading import Reading, Word
from services.embedder.requests import AudioFile
from services.embedder.vector_cache import VectorCache, cache_keys


def put(cache: VectorCache, key: Hashable, value: float, dimensions: int = 128) -> None:
    vector = np.full(dimensions, value, np.float32)
    cache.put({key: vector}, {key: PreparedInput([], 3, 3, True, key)})


def test_a_cached_vector_is_returned_with_its_tokens() -> None:
    cache = VectorCache(10_000)
    one, other = cache_keys("digest", "", ["one", "other"])
    put(cache, one, 1)
    found = cache.get([one, other])
    assert list(found) == [one]
    assert found[one].vector.tolist() == [1] * 128
    assert (found[one].tokens, found[one].truncated) == (3, True)


def test_a_cached_vector_does_not_change_with_the_array_it_was_put_from() -> None:
    cache, batch = VectorCache(10_000), np.ones((2, 4), np.float32)
    cache.put({"key": batch[0]}, {"key": PreparedInput([], 3, 3, False, "key")})
    batch[:] = 9
    assert cache.get(["key"])["key"].vector.tolist() == [1] * 4


def test_it_stays_within_its_bytes_and_evicts_the_least_recently_used() -> None:
    cache = VectorCache(4096)
    keys = cache_keys("digest", "", [str(value) for value in range(100)])
    put(cache, keys[0], 0)
    for key in keys[1:]:
        put(cache, key, 1)
        cache.get([keys[0]])
        assert cache.size <= 4096
    assert set(cache.get(keys)) == {keys[0], *keys[-3:]}


def test_the_reading_is_cached_and_its_size_counts() -> None:
    reading = Reading("ü" * 300, 0.5, 300, 200, 300, 400, (Word(0, 300, 300, 200, True),) * 20)
    vector, cache = np.ones(4, np.float32), VectorCache(10_000)
    cache.put({"a": vector}, {"a": PreparedInput([], 3, 3, True, "a")})
    without = cache.size
    cache.put({"b": vector}, {"b": PreparedInput([], 3, 3, True, "b", reading)})
    assert cache.get(["b"])["b"].reading == reading
    assert cache.size - 2 * without >= 300 + 20 * 100


def test_a_vector_that_is_too_large_is_not_cached() -> None:
    cache = VectorCache(1024)
    put(cache, "key", 1, 1000)
    assert not cache.get(["key"])


def test_keys_differ_by_model_task_and_modality() -> None:
    found = [
        *cache_keys("one", "", ["a", b"a", AudioFile(b"a"), "b"]),
        *cache_keys("other", "", ["a"]),
        *cache_keys("one", "query", ["a"]),
    ]
    assert len(set(found)) == len(found)
    assert cache_keys("one", "", ["a"])[0] == found[0]
