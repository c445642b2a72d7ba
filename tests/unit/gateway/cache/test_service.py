import numpy as np
import pytest

from services.errors import InvalidArgument
from services.gateway.cache.service import given

VECTOR = np.ones(4, np.float32)


@pytest.mark.parametrize("digest", ["a digest", "x" * 257, "é", "a/b", "a\n"])
def test_a_digest_that_no_model_has_is_named(digest: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        given(VECTOR, digest)
    assert (refused.value.reason, refused.value.field) == ("BAD_DIGEST", "model_digest")


def test_a_vector_of_the_callers_own_is_taken_as_it_is() -> None:
    vectors = given(VECTOR, "abc-1.2_3")
    assert vectors.rows.tolist() == [[1, 1, 1, 1]]
    assert vectors.digest == "abc-1.2_3"
