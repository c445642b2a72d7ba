"""The format of architecture.json, which declares the architecture of an image network.

A network is a list of layers, first to last, over a square RGB image::

    {"format": 1, "name": "tiny", "side": 32, "mirrored": true,
     "mean": [0.5, 0.5, 0.5], "deviation": [0.25, 0.25, 0.25],
     "layers": [{"type": "convolution", "channels": 8, "kernel": 3, "stride": 1},
                {"type": "activation", "function": "relu"},
                {"type": "pooling", "kind": "max", "size": 2},
                {"type": "flatten"},
                {"type": "dense", "units": 16}]}

A declaration is untrusted input, so every value is checked and bounded before a network is built.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from services.embedder.models.layers import LAYERS, Layer, Shape, check_range

FORMAT = 1
MAX_LAYERS = 64
MAX_PARAMETERS = 64_000_000
MAX_ACTIVATIONS = 16_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class Architecture:
    """A declared network. The names of its fields are the keys of architecture.json.

    Attributes:
        name: the model's name.
        side: width and height of the input in pixels.
        mean: mean of each colour channel, 0 to 1; it is subtracted from the input.
        deviation: standard deviation of each colour channel; the input is divided by it.
        mirrored: whether the vector is the mean of the image's and its mirror image's vectors.
        layers: first to last; the last one must output a vector.

    Raises:
        ValueError: a value is out of range, a layer does not fit the one before it, or the network
            exceeds MAX_PARAMETERS or MAX_ACTIVATIONS.
    """

    name: str
    side: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    mirrored: bool
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        check_range("length of the name", len(self.name), 1, 100)
        check_range("side", self.side, 8, 512)
        check_range("number of layers", len(self.layers), 1, MAX_LAYERS)
        for mean, deviation in zip(self.mean, self.deviation, strict=True):
            check_range("mean", mean, 0, 1)
            check_range("deviation", deviation, 0.01, 1)
        if len(self._shapes()[-1]) != 1:
            raise ValueError("the last layer must output a vector: end with flatten or dense")
        parameters = sum(math.prod(shape) for shape in self.parameter_shapes().values())
        if parameters > MAX_PARAMETERS:
            raise ValueError(
                f"{parameters:,} parameters are more than the maximum of {MAX_PARAMETERS:,}"
            )

    @property
    def dimensions(self) -> int:
        """Return the length of the vector."""
        return self._shapes()[-1][0]

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the shapes of all parameters by ``<layer's position>.<weight or bias>``."""
        shapes = self._shapes()
        return {
            f"{position}.{name}": shape
            for position, layer in enumerate(self.layers)
            for name, shape in layer.parameter_shapes(shapes[position]).items()
        }

    def layers_with_input_shapes(self) -> Iterator[tuple[Layer, Shape]]:
        """Yield each layer with the shape of its input."""
        return zip(self.layers, self._shapes(), strict=False)

    def to_json(self) -> str:
        """Return the declaration as JSON that ``parse`` reads back."""
        values = dataclasses.asdict(self)
        values["layers"] = [{"type": x.type, **dataclasses.asdict(x)} for x in self.layers]
        lines = ",\n    ".join(json.dumps(layer) for layer in values.pop("layers"))
        head = ",\n  ".join(
            f'"{k}": {json.dumps(v)}' for k, v in {"format": FORMAT, **values}.items()
        )
        return f'{{\n  {head},\n  "layers": [\n    {lines}\n  ]\n}}\n'

    def _shapes(self) -> list[Shape]:
        """Return the shape of the input, then the shape after each layer."""
        shapes: list[Shape] = [(3, self.side)]
        for position, layer in enumerate(self.layers):
            where = f"layers[{position}] ({layer.type})"
            try:
                layer.parameter_shapes(shapes[-1])
                shapes.append(layer.output_shape(shapes[-1]))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            count = _count(shapes[-1])
            if count > MAX_ACTIVATIONS:
                raise ValueError(f"{where}: {count:,} activations exceed {MAX_ACTIVATIONS:,}")
        return shapes


def parse(text: str) -> Architecture:
    """Parse the JSON of architecture.json.

    Raises:
        ValueError: the text is not valid JSON, a key is missing or unknown, or the declared network
            cannot be built.
    """
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"architecture is not valid JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ValueError(f'architecture must be a JSON object with "format": {FORMAT}')
    layers = values.get("layers")
    if not isinstance(layers, list):
        raise ValueError("architecture must have a list of layers")
    values["layers"] = tuple(
        _layer(position, layer) for position, layer in enumerate(layers[: MAX_LAYERS + 1])
    )
    for key in ("mean", "deviation"):
        values[key] = _colours(key, values.get(key))
    return _construct("architecture", Architecture, values)


def _layer(position: int, values: Any) -> Layer:
    where = f"layers[{position}]"
    if not isinstance(values, dict) or str(values.get("type")) not in LAYERS:
        raise ValueError(f"{where} needs a type that is one of {', '.join(LAYERS)}")
    kind = LAYERS[str(values["type"])]
    return _construct(where, kind, {k: v for k, v in values.items() if k != "type"})


def _construct(where: str, kind: Callable[..., T], values: dict[str, Any]) -> T:
    """Construct a dataclass, whose fields define the allowed keys and their types."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            known = ", ".join(fields)
            raise ValueError(f"{where} has an unknown key {name!r}; the known keys are {known}")
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise ValueError(f"{where}: the key {name!r} is missing")
        expected: Any = field.type
        checked = name in values and expected in (int, str, bool)
        if checked and type(values[name]) is not expected:
            raise ValueError(f"{where}: {name} must be {expected.__name__}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _colours(key: str, values: Any) -> tuple[float, ...]:
    numbers = isinstance(values, list) and len(values) == 3  # noqa: PLR2004 - red, green, blue
    if not numbers or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"architecture: {key} must be three numbers")
    return tuple(values)


def _count(shape: Shape) -> int:
    """Count the numbers in feature maps or in a vector."""
    return shape[0] if len(shape) == 1 else shape[0] * shape[1] ** 2
