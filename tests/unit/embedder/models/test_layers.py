from typing import Any

import pytest
import torch

from services.embedder.models import layers
from services.embedder.models.layers import (
    Activation,
    Convolution,
    Dense,
    Flatten,
    GlobalPooling,
    Layer,
    Pooling,
    Shape,
    check_range,
)
from services.embedder.models.network import build_layer

EXAMPLES: list[tuple[Layer, Shape]] = [
    (Convolution(5, 3), (3, 9)),
    (Convolution(5, 7, 3), (3, 10)),
    (Activation("relu"), (3, 9)),
    (Activation("tanh"), (7,)),
    (Pooling("max", 2), (3, 9)),
    (Pooling("average", 3), (3, 8)),
    (GlobalPooling("max"), (3, 9)),
    (Flatten(), (3, 4)),
    (Dense(6), (11,)),
]


def tensor_shape(shape: Shape) -> Shape:
    return (*shape, shape[1]) if len(shape) > 1 else shape


@pytest.mark.parametrize(("layer", "shape"), EXAMPLES)
def test_declared_shapes_are_those_of_torch(layer: Layer, shape: Shape) -> None:
    module = build_layer(layer, shape)
    output = module(torch.zeros(1, *tensor_shape(shape)))[0]
    assert tuple(output.shape) == tensor_shape(layer.output_shape(shape))
    found = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert found == layer.parameter_shapes(shape)


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        (Convolution, (0, 3), "channels must be from 1 to 4096"),
        (Convolution, (4, 4), "kernel must be odd"),
        (Convolution, (4, 17), "kernel must be from 1 to 15"),
        (Convolution, (4, 3, 9), "stride must be from 1 to 8"),
        (Activation, ("gelu",), "function must be one of linear, sigmoid, tanh, relu"),
        (Pooling, ("min", 2), "kind must be one of max, average"),
        (Pooling, ("max", 1), "size must be from 2 to 64"),
        (GlobalPooling, ("sum",), "kind must be one of"),
        (Dense, (8193,), "units must be from 1 to 8192"),
    ],
)
def test_options_out_of_range_are_refused(kind: Any, options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        kind(*options)


@pytest.mark.parametrize(
    ("layer", "shape", "complaint"),
    [
        (Convolution(4, 3), (8,), "needs feature maps"),
        (Flatten(), (8,), "needs feature maps"),
        (GlobalPooling("max"), (8,), "needs feature maps"),
        (Pooling("max", 5), (3, 4), "a window of 5 does not fit into a side of 4"),
    ],
)
def test_a_layer_refuses_an_input_that_it_does_not_fit(
    layer: Layer, shape: Shape, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        layer.output_shape(shape)


def test_a_dense_layer_needs_a_vector() -> None:
    with pytest.raises(ValueError, match="Put flatten or global_pooling before it"):
        Dense(4).parameter_shapes((3, 9))


@pytest.mark.parametrize("value", [0.9, 2.1, float("nan")])
def test_numbers_out_of_range_are_refused(value: float) -> None:
    check_range("x", 1, 1, 2)
    with pytest.raises(ValueError, match="x must be from 1 to 2"):
        check_range("x", value, 1, 2)


def test_every_layer_is_known_by_its_type() -> None:
    assert set(layers.LAYERS) == {layer.type for layer, _ in EXAMPLES}
