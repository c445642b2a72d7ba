import re
from typing import Any

import pytest

from services.embedder.models.architecture import parse
from tests.conftest import ROOT
from tests.fakes.networks import tiny_architecture


def test_parameters_and_dimensions_follow_from_the_declaration() -> None:
    layers = [
        {"type": "convolution", "channels": 8, "kernel": 5, "stride": 2},
        {"type": "activation", "function": "relu"},
        {"type": "pooling", "kind": "max", "size": 3},
        {"type": "flatten"},
        {"type": "dense", "units": 16},
    ]
    declared = tiny_architecture(side=32, layers=layers)
    assert declared.dimensions == 16
    assert declared.parameter_shapes() == {
        "0.weight": (8, 3, 5, 5),
        "0.bias": (8,),
        "4.weight": (16, 8 * 5 * 5),  # 32 pixels, then 16 by the stride, then 5 windows of 3
        "4.bias": (16,),
    }


def test_each_layer_has_the_shape_of_its_input() -> None:
    shapes = [shape for _, shape in tiny_architecture().layers_with_input_shapes()]
    assert shapes == [(3, 16), (4, 16), (4, 16), (4, 8), (4, 8), (4, 4), (64,)]


def test_a_declaration_survives_writing_and_reading() -> None:
    assert parse(tiny_architecture().to_json()) == tiny_architecture()


def test_the_stride_of_a_convolution_defaults_to_one() -> None:
    assert tiny_architecture().to_json().count('"stride": 1') == 1


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
        ({"layers": [{"type": "eval"}]}, "needs a type that is one of convolution"),
        ({"layers": [["flatten"]]}, "needs a type"),
        ({"layers": [{"type": ["flatten"]}]}, "needs a type"),
        (
            {"layers": [{"type": "dense", "units": 4}]},
            r"layers\[0\] \(dense\): dense needs a vector",
        ),
        ({"layers": [{"type": "flatten"}] * 2}, "needs feature maps"),
        ({"layers": [{"type": "convolution", "channels": 4, "kernel": 3}]}, "must output a vector"),
        ({"layers": [{"type": "convolution", "channels": 4, "kernel": 2}]}, "kernel must be odd"),
        ({"layers": [{"type": "convolution", "channels": 10**9, "kernel": 3}]}, "channels must be"),
        ({"layers": [{"type": "convolution", "kernel": 3}]}, "the key 'channels' is missing"),
        ({"layers": [{"type": "activation", "function": "exec"}]}, "function must be one of"),
        ({"layers": [{"type": "pooling", "kind": "max", "size": 17}]}, "does not fit into a side"),
        (
            {
                "side": 512,
                "layers": [{"type": "flatten"}, {"type": "dense", "units": 8192}],
            },
            "parameters are more than",
        ),
        (
            {"side": 512, "layers": [{"type": "convolution", "channels": 4096, "kernel": 1}]},
            "activations exceed",
        ),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tiny_architecture(**changes)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"format": 1}'])
def test_text_that_is_not_a_declaration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="architecture"):
        parse(text)


def test_the_example_of_the_documentation_can_be_built() -> None:
    [example] = re.findall(
        r"```json\n(\{\"format\".*?)```", (ROOT / "docs/training.md").read_text(), re.S
    )
    assert parse(example).dimensions == 64
