"""The declared architecture of an image network: what architecture.json may say, and what follows.

A network is a list of layers, read top to bottom, over a square RGB picture::

    {"format": 1, "name": "tiny", "side": 32, "mirrored": true,
     "mean": [0.5, 0.5, 0.5], "deviation": [0.25, 0.25, 0.25],
     "layers": [{"type": "convolution", "channels": 8, "kernel": 3, "stride": 1},
                {"type": "activation", "function": "relu"},
                {"type": "pooling", "kind": "max", "size": 2},
                {"type": "flatten"},
                {"type": "dense", "units": 16}]}

A declaration is data from outside: everything in it is checked and bounded before it is built.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from services.embedder.models.layers import LAYERS, Layer, Shape, within

FORMAT = 1
MAX_PARAMETERS = 64_000_000
MAX_ACTIVATIONS = 16_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class Architecture:
    """A declared network.

    Attributes:
        name: what the model is called.
        side: pixels of each side of the square input.
        mean: of each colour, 0 to 1; subtracted from the input.
        deviation: of each colour; the input is divided by it.
        mirrored: whether the vector is the average over the picture and its mirror image.
        layers: first to last; the last must leave a vector.

    Raises:
        ValueError: a value is out of bounds, a layer does not fit the one before it, or the network
            is larger than this program accepts.
    """

    name: str
    side: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    mirrored: bool
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        within("length of the name", len(self.name), 1, 100)
        within("side", self.side, 8, 512)
        within("number of layers", len(self.layers), 1, 64)
        for mean, deviation in zip(self.mean, self.deviation, strict=True):
            within("mean", mean, 0, 1)
            within("deviation", deviation, 0.01, 1)
        if len(self._shapes()[-1]) != 1:
            raise ValueError("the last layer must leave a vector: end with flatten or dense")
        parameters = sum(math.prod(shape) for shape in self.tensors().values())
        if parameters > MAX_PARAMETERS:
            raise ValueError(f"{parameters:,} parameters are more than {MAX_PARAMETERS:,}")

    @property
    def dimensions(self) -> int:
        """Length of the vector."""
        return self._shapes()[-1][0]

    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of all learned tensors: ``<layer's position>.<weight or bias>``."""
        shapes = self._shapes()
        return {
            f"{position}.{name}": shape
            for position, layer in enumerate(self.layers)
            for name, shape in layer.tensors(shapes[position]).items()
        }

    def inputs(self) -> Iterator[tuple[Layer, Shape]]:
        """Each layer with the shape that goes into it."""
        return zip(self.layers, self._shapes(), strict=False)

    def to_json(self) -> str:
        """The declaration as text; ``parse`` reads it back."""
        values = dataclasses.asdict(self)
        values["layers"] = [{"type": x.type, **dataclasses.asdict(x)} for x in self.layers]
        lines = ",\n    ".join(json.dumps(layer) for layer in values.pop("layers"))
        head = ",\n  ".join(
            f'"{k}": {json.dumps(v)}' for k, v in {"format": FORMAT, **values}.items()
        )
        return f'{{\n  {head},\n  "layers": [\n    {lines}\n  ]\n}}\n'

    def _shapes(self) -> list[Shape]:
        """The input's shape, then the shape after each layer."""
        shapes: list[Shape] = [(3, self.side)]
        for position, layer in enumerate(self.layers):
            try:
                layer.tensors(shapes[-1])
                shapes.append(layer.output(shapes[-1]))
            except ValueError as error:
                raise ValueError(f"layers[{position}] ({layer.type}): {error}") from error
            if (
                shapes[-1][0] * (shapes[-1][-1] ** 2 if len(shapes[-1]) > 1 else 1)
                > MAX_ACTIVATIONS
            ):
                raise ValueError(f"layers[{position}] ({layer.type}): too many values")
        return shapes


def parse(text: str) -> Architecture:
    """Read a declaration.

    Args:
        text: the JSON of architecture.json.

    Raises:
        ValueError: it is no JSON, misses or adds a key, or declares what cannot be built.
    """
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"architecture is no valid JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ValueError(f'architecture must be a JSON object with "format": {FORMAT}')
    layers = values.get("layers")
    if not isinstance(layers, list):
        raise ValueError("architecture needs a list of layers")
    values["layers"] = tuple(_layer(position, layer) for position, layer in enumerate(layers[:65]))
    for key in ("mean", "deviation"):
        values[key] = _colours(key, values.get(key))
    return _built("architecture", Architecture, values)


def _layer(position: int, values: Any) -> Layer:
    where = f"layers[{position}]"
    if not isinstance(values, dict) or str(values.get("type")) not in LAYERS:
        raise ValueError(f"{where} needs a type: one of {', '.join(LAYERS)}")
    kind = LAYERS[str(values["type"])]
    return _built(where, kind, {k: v for k, v in values.items() if k != "type"})


def _built(where: str, kind: Callable[..., T], values: dict[str, Any]) -> T:
    """Build a dataclass from exactly its own keys and types."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ValueError(f"{where} has an unknown key {name!r}; known are {', '.join(fields)}")
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise ValueError(f"{where} misses {name!r}")
        if (
            field.type in (int, str, bool)
            and name in values
            and type(values[name]) is not field.type
        ):
            raise ValueError(f"{where}: {name} must be {field.type.__name__}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _colours(key: str, values: Any) -> tuple[float, ...]:
    numbers = isinstance(values, list) and len(values) == 3  # noqa: PLR2004 - red, green, blue
    if not numbers or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"architecture: {key} must be three numbers")
    return tuple(values)
