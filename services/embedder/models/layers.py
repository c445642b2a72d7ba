"""The layers that a declared network may have: what each takes in, gives out and learns.

A shape is ``(channels, side)`` for a square picture and ``(length,)`` for a vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """A convolution with bias; zero padding of kernel // 2, so that stride 1 keeps the side."""

    type: ClassVar[str] = "convolution"
    channels: int
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        within("channels", self.channels, 1, 4096)
        within("kernel", self.kernel, 1, 15)
        within("stride", self.stride, 1, 8)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")

    def output(self, shape: Shape) -> Shape:
        """Shape after this layer of ``(channels, side)``."""
        _, side = _picture(shape)
        return self.channels, (side - 1) // self.stride + 1

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """Names and shapes of the learned tensors."""
        channels, _ = _picture(shape)
        weight = (self.channels, channels, self.kernel, self.kernel)
        return {"weight": weight, "bias": (self.channels,)}


@dataclass(frozen=True)
class Activation:
    """A function of each number alone: linear, sigmoid, tanh or relu."""

    type: ClassVar[str] = "activation"
    function: str

    def __post_init__(self) -> None:
        _one_of("function", self.function, ("linear", "sigmoid", "tanh", "relu"))

    def output(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """Nothing is learned."""
        return {}


@dataclass(frozen=True)
class Pooling:
    """The maximum or average of each ``size`` x ``size`` square; a rest at the border goes."""

    type: ClassVar[str] = "pooling"
    kind: str
    size: int

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, ("max", "average"))
        within("size", self.size, 2, 64)

    def output(self, shape: Shape) -> Shape:
        """Shape after this layer of ``(channels, side)``."""
        channels, side = _picture(shape)
        if side < self.size:
            raise ValueError(f"pooling of {self.size} does not fit into a side of {side}")
        return channels, side // self.size

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """Nothing is learned."""
        return {}


@dataclass(frozen=True)
class GlobalPooling:
    """The maximum or average of each whole channel: a vector that forgets the position."""

    type: ClassVar[str] = "global_pooling"
    kind: str

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, ("max", "average"))

    def output(self, shape: Shape) -> Shape:
        """One number a channel."""
        return (_picture(shape)[0],)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """Nothing is learned."""
        return {}


@dataclass(frozen=True)
class Flatten:
    """All numbers in one row, channel by channel."""

    type: ClassVar[str] = "flatten"

    def output(self, shape: Shape) -> Shape:
        """Channels times side squared."""
        channels, side = _picture(shape)
        return (channels * side * side,)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """Nothing is learned."""
        return {}


@dataclass(frozen=True)
class Dense:
    """Every input weighted into every output, with bias."""

    type: ClassVar[str] = "dense"
    units: int

    def __post_init__(self) -> None:
        within("units", self.units, 1, 8192)

    def output(self, shape: Shape) -> Shape:
        """One number a unit."""
        return (self.units,)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """Names and shapes of the learned tensors."""
        if len(shape) != 1:
            raise ValueError("dense needs a vector: put flatten or global_pooling before it")
        return {"weight": (self.units, shape[0]), "bias": (self.units,)}


Layer = Convolution | Activation | Pooling | GlobalPooling | Flatten | Dense
LAYERS: dict[str, Callable[..., Layer]] = {
    kind.type: kind for kind in (Convolution, Activation, Pooling, GlobalPooling, Flatten, Dense)
}


def _picture(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2:  # noqa: PLR2004 - channels and side
        raise ValueError("needs a picture, but the layers before it leave a vector")
    return shape[0], shape[1]


def within(name: str, value: float, least: float, most: float) -> None:
    """Refuse a number out of its bounds."""
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
