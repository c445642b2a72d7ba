from typing import Any

import numpy as np
import pytest

from services.embedder import encodings
from services.embedder.models.model import Vectors
from services.errors import InvalidArgument

SCALE = 0.3 / 127


def unit(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, 384)).astype(np.float32)
    return encodings.truncate_dimensions(vectors, 0, normalize=True)


def codes(vectors: Vectors, scale: float = SCALE) -> Any:
    encoded = encodings.encode(vectors, "int8", scale)
    return np.frombuffer(encoded.data, np.int8).reshape(len(vectors), -1)


def lengths(vectors: Vectors) -> Any:
    return np.linalg.norm(vectors, axis=1)


def test_int8_does_not_depend_on_the_batch() -> None:
    vectors = unit(20)
    assert (codes(vectors[:1])[0] == codes(vectors)[0]).all()
    assert (codes(np.vstack([vectors[:1], unit(5, seed=1)]))[0] == codes(vectors)[0]).all()


def test_int8_decodes_within_half_a_step() -> None:
    vectors = unit(20)
    encoded = encodings.encode(vectors, "int8", SCALE)
    decoded = codes(vectors) * np.array(encoded.scale) + np.array(encoded.offset)
    assert (len(encoded.scale), encoded.scale[0], set(encoded.offset)) == (384, SCALE, {0.0})
    assert np.abs(decoded - vectors).max() <= SCALE / 2 * 1.001


def test_int8_codes_compare_as_the_vectors_do() -> None:
    vectors = unit(50)
    some = codes(vectors).astype(np.float32)
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    assert some @ some.T == pytest.approx(vectors @ vectors.T, abs=5e-3)


def test_int8_clips_what_is_out_of_range() -> None:
    vectors = np.array([[0.31, -0.31, 5.0, -5.0, 1e30]], np.float32)
    assert codes(vectors).tolist() == [[127, -127, 127, -127, 127]]


def test_floats_are_little_endian_rows() -> None:
    vectors = unit(3)
    whole = encodings.encode(vectors, "float32", SCALE)
    half = encodings.encode(vectors, "float16", SCALE)
    assert (np.frombuffer(whole.data, "<f4").reshape(3, 384) == vectors).all()
    assert np.frombuffer(half.data, "<f2").reshape(3, 384) == pytest.approx(vectors, abs=1e-3)
    assert (whole.dimensions, whole.scale, half.offset) == (384, [], [])


def test_binary_is_the_sign_of_each_number_from_the_highest_bit() -> None:
    vectors = np.array([[1, -1, 1, 0, 0, 0, 0, 0, 1]], np.float32)
    encoded = encodings.encode(vectors, "binary", SCALE)
    assert (encoded.data, encoded.dimensions) == (bytes([0b10100000, 0b10000000]), 9)


def test_truncation_keeps_unit_length_if_the_whole_vectors_have_it() -> None:
    vectors = unit(5)
    for normalize in (True, False):
        kept = encodings.truncate_dimensions(vectors, 64, normalize=normalize)
        assert kept.shape == (5, 64)
        assert lengths(kept) == pytest.approx(1, abs=1e-5)
    longer = encodings.truncate_dimensions(3 * vectors, 64, normalize=False)
    assert (longer == 3 * vectors[:, :64]).all()


def test_vectors_are_normalised_only_if_asked() -> None:
    vectors = 3 * unit(5)
    assert encodings.truncate_dimensions(vectors, 0, normalize=False) is vectors
    assert lengths(encodings.truncate_dimensions(vectors, 0, normalize=True)) == pytest.approx(1)
    zero = np.zeros((1, 4), np.float32)
    assert (encodings.truncate_dimensions(zero, 0, normalize=True) == 0).all()


@pytest.mark.parametrize("dimensions", [-1, 385])
def test_impossible_dimensions_are_refused(dimensions: int) -> None:
    with pytest.raises(InvalidArgument, match=f"{dimensions}. It must be 0 .* to 384"):
        encodings.validate_dimensions(dimensions, 384)


@pytest.mark.parametrize("dimensions", [0, 1, 384])
def test_possible_dimensions_are_accepted(dimensions: int) -> None:
    encodings.validate_dimensions(dimensions, 384)
