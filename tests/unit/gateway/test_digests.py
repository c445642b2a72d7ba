import hashlib

import pytest

from services.gateway.digests import canonical, digest


def test_equal_data_gives_equal_bytes() -> None:
    assert canonical({"b": [1, None], "a": "ö"}) == canonical({"a": "ö", "b": [1, None]})
    assert canonical({"b": 1, "a": "ö"}) == '{"a":"ö","b":1}'.encode()
    assert canonical([1, 2]) != canonical([2, 1])


def test_a_digest_is_that_of_the_bytes() -> None:
    assert digest([1]) == hashlib.sha256(b"[1]").hexdigest()


@pytest.mark.parametrize("count", [0, 1, 256, 257, 1_000])
def test_a_long_list_has_the_same_digest_as_its_bytes(count: int) -> None:
    pairs = [(f"role {number}", "ö,]") for number in range(count)]
    assert digest(pairs) == hashlib.sha256(canonical(pairs)).hexdigest()
    assert digest(tuple(pairs)) == digest(pairs)
