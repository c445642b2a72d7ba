"""The layers of a declared network: their options, their output shapes and their parameters.

A shape is ``(channels, side)`` for square feature maps and ``(length,)`` for a vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """A convolution with bias and zero padding of kernel // 2, so that stride 1 keeps the side."""

    type: ClassVar[str] = "convolution"
    channels: int
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        check_range("channels", self.channels, 1, 4096)
        check_range("kernel", self.kernel, 1, 15)
        check_range("stride", self.stride, 1, 8)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(channels, side)``."""
        _, side = _channels_and_side(input_shape)
        return self.channels, (side - 1) // self.stride + 1

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return the shapes of the weight and the bias."""
        channels, _ = _channels_and_side(input_shape)
        weight = (self.channels, channels, self.kernel, self.kernel)
        return {"weight": weight, "bias": (self.channels,)}


@dataclass(frozen=True)
class Activation:
    """An elementwise function: linear, sigmoid, tanh or relu."""

    type: ClassVar[str] = "activation"
    function: str

    def __post_init__(self) -> None:
        _check_choice("function", self.function, ("linear", "sigmoid", "tanh", "relu"))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the input."""
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return nothing, because this layer has no parameters."""
        return {}


@dataclass(frozen=True)
class Pooling:
    """The maximum or average of each ``size`` x ``size`` window; partial windows are dropped."""

    type: ClassVar[str] = "pooling"
    kind: str
    size: int

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, ("max", "average"))
        check_range("size", self.size, 2, 64)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(channels, side)``."""
        channels, side = _channels_and_side(input_shape)
        if side < self.size:
            raise ValueError(f"a window of {self.size} does not fit into a side of {side}")
        return channels, side // self.size

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return nothing, because this layer has no parameters."""
        return {}


@dataclass(frozen=True)
class GlobalPooling:
    """The maximum or average of each channel: a vector without positions."""

    type: ClassVar[str] = "global_pooling"
    kind: str

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, ("max", "average"))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return a shape with one number per channel."""
        return (_channels_and_side(input_shape)[0],)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return nothing, because this layer has no parameters."""
        return {}


@dataclass(frozen=True)
class Flatten:
    """The numbers of all channels in one vector, channel by channel."""

    type: ClassVar[str] = "flatten"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return channels times side squared."""
        channels, side = _channels_and_side(input_shape)
        return (channels * side * side,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return nothing, because this layer has no parameters."""
        return {}


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with bias."""

    type: ClassVar[str] = "dense"
    units: int

    def __post_init__(self) -> None:
        check_range("units", self.units, 1, 8192)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return a shape with one number per unit."""
        return (self.units,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return the shapes of the weight and the bias."""
        if len(input_shape) != 1:
            raise ValueError("dense needs a vector. Put flatten or global_pooling before it")
        return {"weight": (self.units, input_shape[0]), "bias": (self.units,)}


Layer = Convolution | Activation | Pooling | GlobalPooling | Flatten | Dense
LAYERS: dict[str, Callable[..., Layer]] = {
    kind.type: kind for kind in (Convolution, Activation, Pooling, GlobalPooling, Flatten, Dense)
}


def kind_of(layer: Layer) -> str:
    """Return what a layer does, for example ``convolution``, ``relu`` or ``pooling-max``."""
    match layer:
        case Activation(function):
            return function
        case Pooling(kind) | GlobalPooling(kind):
            return f"{layer.type}-{kind}"
        case _:
            return layer.type


def check_range(name: str, value: float, minimum: float, maximum: float) -> None:
    """Check that an option is in its range.

    Raises:
        ValueError: it is outside the range, or is not a number.
    """
    if not minimum <= value <= maximum:
        raise ValueError(f"{name} must be from {minimum} to {maximum}, not {value}")


def _channels_and_side(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2:  # noqa: PLR2004 - channels and side
        raise ValueError("needs feature maps, but the layers before it output a vector")
    return shape[0], shape[1]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
