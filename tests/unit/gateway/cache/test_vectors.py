import numpy as np
import pytest

from services.errors import InvalidArgument
from services.gateway.cache.vectors import clamp_cosine, from_caller, pack, unit, unpack

VECTOR = np.ones(4, np.float32)


@pytest.mark.parametrize("digest", ["a digest", "x" * 257, "é", "a/b", "a\n"])
def test_a_malformed_digest_is_rejected(digest: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_caller(VECTOR, digest)
    assert (caught.value.reason, caught.value.field) == ("BAD_DIGEST", "model_digest")


@pytest.mark.parametrize(("vector", "digest"), [(VECTOR, ""), (VECTOR[:0], "abc")])
def test_a_vector_needs_numbers_and_a_digest(vector: np.ndarray, digest: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_caller(vector, digest)
    assert (caught.value.reason, caught.value.field) == ("BAD_VECTOR", "vector")


def test_a_callers_vector_is_taken_unchanged() -> None:
    vectors = from_caller(VECTOR, "abc-1.2_3")
    assert vectors.rows.tolist() == [[1, 1, 1, 1]]
    assert vectors.digest == "abc-1.2_3"


def test_a_packed_vector_is_a_unit_vector_in_half_precision() -> None:
    unpacked = unpack(pack(np.array([3, 4], np.float32)))
    assert unpacked is not None
    assert unpacked.dtype == np.float32
    assert np.allclose(unpacked, [0.6, 0.8], atol=1e-3)
    assert unpack("") is None


def test_a_zero_vector_stays_zero() -> None:
    assert unit(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_cosines_stay_in_range() -> None:
    assert [clamp_cosine(value) for value in (-1.5, -0.5, 1.0000001)] == [-1, -0.5, 1]
