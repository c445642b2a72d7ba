import numpy as np
import pytest

from services.embedder import encodings

SCALE = 0.3 / 127


def unit(count: int, seed: int = 0) -> encodings.Rows:
    rows = np.random.default_rng(seed).normal(size=(count, 384)).astype(np.float32)
    return encodings.shape(rows, 0, normalize=True)


def codes(rows: encodings.Rows, scale: float = SCALE) -> np.ndarray:
    packed = encodings.pack(rows, "int8", scale)
    return np.frombuffer(packed.data, np.int8).reshape(len(rows), -1)


def test_int8_does_not_depend_on_the_batch() -> None:
    rows = unit(20)
    assert (codes(rows[:1])[0] == codes(rows)[0]).all()
    assert (codes(np.vstack([rows[:1], unit(5, seed=1)]))[0] == codes(rows)[0]).all()


def test_int8_turns_back_within_half_a_step() -> None:
    rows = unit(20)
    packed = encodings.pack(rows, "int8", SCALE)
    back = codes(rows) * np.array(packed.scale) + np.array(packed.offset)
    assert (len(packed.scale), packed.scale[0], set(packed.offset)) == (384, SCALE, {0.0})
    assert np.abs(back - rows).max() <= SCALE / 2 * 1.001


def test_codes_compare_as_the_vectors_do() -> None:
    rows = unit(50)
    some = codes(rows).astype(np.float32)
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    assert some @ some.T == pytest.approx(rows @ rows.T, abs=5e-3)


def test_what_is_out_of_range_is_clipped_and_not_wrapped() -> None:
    rows = np.array([[0.31, -0.31, 5.0, -5.0, 1e30]], np.float32)
    assert codes(rows).tolist() == [[127, -127, 127, -127, 127]]
