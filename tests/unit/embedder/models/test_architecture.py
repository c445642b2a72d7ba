import json
import re
from typing import Any

import pytest

from services.embedder.models.architecture import Architecture, parse
from services.embedder.models.layers import Convolution
from tests.conftest import ROOT


def declaration(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "tiny",
        "side": 32,
        "mean": [0.5, 0.5, 0.5],
        "deviation": [0.25, 0.25, 0.25],
        "mirrored": True,
        "layers": [
            {"type": "convolution", "channels": 8, "kernel": 5, "stride": 2},
            {"type": "activation", "function": "relu"},
            {"type": "pooling", "kind": "max", "size": 3},
            {"type": "flatten"},
            {"type": "dense", "units": 16},
        ],
    } | changes


def read(**changes: Any) -> Architecture:
    return parse(json.dumps(declaration(**changes)))


def test_a_declaration_says_every_tensor_and_the_vector_s_length() -> None:
    tiny = read()
    assert tiny.dimensions == 16
    assert tiny.parameter_shapes() == {
        "0.weight": (8, 3, 5, 5),
        "0.bias": (8,),
        "4.weight": (16, 8 * 5 * 5),  # 32 pixels, halved by the stride, in threes: 5
        "4.bias": (16,),
    }


def test_global_pooling_leaves_one_number_a_channel() -> None:
    layers = [
        {"type": "convolution", "channels": 7, "kernel": 3},
        {"type": "global_pooling", "kind": "average"},
    ]
    assert read(layers=layers).dimensions == 7


def test_a_declaration_survives_writing_and_reading() -> None:
    assert parse(read().to_json()) == read()


def test_stride_defaults_to_one() -> None:
    assert Convolution(4, 3).output_shape((3, 9)) == (4, 9)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": 2}, "format"),
        ({"side": 100_000}, "side must be from 8 to 512"),
        ({"side": "32"}, "side must be int"),
        ({"side": True}, "side must be int"),
        ({"mirrored": 1}, "mirrored must be bool"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"name": ""}, "length of the name"),
        ({"mean": [0, 0, 10**400]}, "mean must be from 0 to 1"),
        ({"mean": [1, 2]}, "mean must be three numbers"),
        ({"mean": [0, 0, float("nan")]}, "mean"),
        ({"deviation": [0.2, 0, 0.2]}, "deviation"),
        ({"layers": {}}, "list of layers"),
        ({"layers": []}, "number of layers"),
        ({"layers": [{"type": "flatten"}] * 65}, "number of layers"),
        ({"layers": [{"type": "eval"}]}, "needs a type: one of convolution"),
        ({"layers": [["flatten"]]}, "needs a type"),
        ({"layers": [{"type": ["flatten"]}]}, "needs a type"),
        (
            {"layers": [{"type": "dense", "units": 4}]},
            r"layers\[0\] \(dense\): dense needs a vector",
        ),
        ({"layers": [{"type": "flatten"}] * 2}, "needs a picture"),
        ({"layers": [{"type": "convolution", "channels": 4, "kernel": 3}]}, "must leave a vector"),
        ({"layers": [{"type": "convolution", "channels": 4, "kernel": 2}]}, "kernel must be odd"),
        ({"layers": [{"type": "convolution", "channels": 10**9, "kernel": 3}]}, "channels must be"),
        ({"layers": [{"type": "convolution", "kernel": 3}]}, "misses 'channels'"),
        ({"layers": [{"type": "activation", "function": "exec"}]}, "function must be one of"),
        ({"layers": [{"type": "pooling", "kind": "max", "size": 33}]}, "does not fit into a side"),
        (
            {
                "side": 512,
                "layers": [{"type": "flatten"}, {"type": "dense", "units": 8192}],
            },
            "parameters are more than",
        ),
        (
            {"side": 512, "layers": [{"type": "convolution", "channels": 4096, "kernel": 1}]},
            "too many values",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read(**changes)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"format": 1}'])
def test_what_is_no_declaration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="architecture"):
        parse(text)


def test_the_example_of_the_readme_can_be_built() -> None:
    [example] = re.findall(r"```json\n(\{\"format\".*?)```", (ROOT / "README.md").read_text(), re.S)
    assert parse(example).dimensions == 64
