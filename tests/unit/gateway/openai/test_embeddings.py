import base64
from typing import Any

import numpy as np
import pytest

from services.errors import InvalidArgument
from services.gateway.openai.embeddings import (
    MAX_INPUTS,
    encode,
    read_dimensions,
    read_inputs,
)


def test_one_text_or_many_are_embedded() -> None:
    assert read_inputs({"input": "a"}) == ["a"]
    assert read_inputs({"input": ["a", "b"]}) == ["a", "b"]
    assert len(read_inputs({"input": ["a"] * MAX_INPUTS})) == MAX_INPUTS


@pytest.mark.parametrize("given", [None, "", [], [""], [1], {"a": 1}, ["a"] * (MAX_INPUTS + 1)])
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_inputs({"input": given})
    assert (caught.value.reason, caught.value.field) == ("BAD_INPUT", "input")


def test_dimensions_are_optional() -> None:
    assert [read_dimensions(body) for body in ({}, {"dimensions": None})] == [0, 0]
    assert read_dimensions({"dimensions": 64}) == 64
    for bad in (-1, "64", 1.5):
        with pytest.raises(InvalidArgument, match="dimensions"):
            read_dimensions({"dimensions": bad})


def test_base64_has_the_same_numbers_as_a_list() -> None:
    vector = np.array([0.25, -1.5], np.float32)
    numbers = encode(vector, as_base64=False)
    assert isinstance(numbers, np.ndarray)
    assert numbers.tolist() == [0.25, -1.5]
    packed = encode(vector, as_base64=True)
    assert isinstance(packed, str)
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == [0.25, -1.5]
