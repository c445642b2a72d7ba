"""Computes the feature maps of an image, and makes them small enough to send."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.embedder.decoding import images
from services.embedder.models.model import LayeredModel, LayerOutput, ModelInfo
from services.errors import FailedPrecondition, InvalidArgument

DEFAULT_CHANNELS, MAX_CHANNELS = 16, 64
MAX_SIDE = 64  # larger maps are sampled
_MAX_CODE = 127


@dataclass(frozen=True, eq=False)
class EncodedLayer:
    """The output of one layer with one signed byte per number.

    Attributes:
        kind: what the layer does.
        shape: the shape of the whole output: [channels, side, side] or [length].
        codes: int8 [channels, side, side], at most as many channels as requested, or [length].
        scale: each number is its code times this.
        weights: float32 [channels, 3, kernel, kernel] of a convolution that reads colours.
    """

    kind: str
    shape: tuple[int, ...]
    codes: NDArray[np.int8]
    scale: float
    weights: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The image as the network sees it, uint8 [side, side, 3], and the output of each layer."""

    info: ModelInfo
    pixels: NDArray[np.uint8]
    layers: list[EncodedLayer]


def validate_channels(max_channels: int) -> int:
    """Return how many channels to send; 0 means the default. Raises InvalidArgument."""
    if not 0 <= max_channels <= MAX_CHANNELS:
        raise InvalidArgument(
            "BAD_CHANNELS",
            f"max_channels is {max_channels}. It must be from 0 to {MAX_CHANNELS}.",
            field="max_channels",
            limit=MAX_CHANNELS,
        )
    return max_channels or DEFAULT_CHANNELS


def layered(model: object, info: ModelInfo) -> LayeredModel:
    """Return a model if it can show its layers. Raises FailedPrecondition otherwise."""
    if isinstance(model, LayeredModel):
        return model
    raise FailedPrecondition(
        "NO_FEATURE_MAPS",
        f"The model {info.name} does not show its layers. Only the project's convolutional"
        " networks do.",
        model=info.name,
    )


def compute(model: LayeredModel, info: ModelInfo, image: bytes, max_channels: int) -> FeatureMaps:
    """Compute the feature maps of an image file.

    Raises:
        InvalidArgument: the image cannot be decoded.
    """
    pixels, outputs = model.feature_maps(images.decode(image, "image"))
    return FeatureMaps(info, pixels, [_encode(output, max_channels) for output in outputs])


def _encode(output: LayerOutput, max_channels: int) -> EncodedLayer:
    values, weights = output.values, output.weights
    if values.ndim > 1:
        step = -(-values.shape[-1] // MAX_SIDE)
        values = values[:max_channels, ::step, ::step]
    scale = float(np.abs(values).max(initial=0.0)) / _MAX_CODE or 1.0
    codes = np.rint(values / scale).astype(np.int8)
    shown = weights[:max_channels] if weights is not None else None
    return EncodedLayer(output.kind, output.values.shape, codes, scale, shown)
