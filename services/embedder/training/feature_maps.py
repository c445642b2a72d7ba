"""Draws the filters of a network's convolutions, and each layer's feature maps of an image.

Zero is black; positive numbers are orange and negative numbers blue, brighter with their magnitude.
"""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from services.embedder.models.layers import kind_of
from services.embedder.models.network import Network

_MAX_TILES = 64  # maximum number of channels to draw per layer
_MIN_SIDE = 64  # minimum side of a tile in pixels
_GAP = 2
_POSITIVE, _NEGATIVE = np.array([255, 190, 90]), np.array([70, 150, 255])

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def draw(network: Network, image: Image.Image, folder: Path) -> list[Path]:
    """Draw a network's filters and its feature maps of an image as PNG files.

    Args:
        network: the network; its layers are numbered as in its declaration.
        image: an upright image of any size and mode.
        folder: the output folder, which is created if needed; existing files are replaced.

    Returns:
        The files: ``filters-NN.png`` for each convolution, ``input.png``, and for each layer
        ``maps-NN-KIND.png`` with the feature maps of up to 64 channels, or a vector as squares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {f"filters-{n:02}": tiles for n, tiles in _filters(network).items()}
    prepared = network.prepare(image)
    drawings["input"] = _enlarge(prepared)[None]
    layers = network.architecture.layers
    for number, (layer, output) in enumerate(
        zip(layers, network.feature_maps(prepared), strict=True)
    ):
        drawings[f"maps-{number:02}-{kind_of(layer)}"] = _map_tiles(output)
    files = []
    for name, tiles in drawings.items():
        files.append(folder / f"{name}.png")
        Image.fromarray(_arrange(tiles)).save(files[-1])
    return files


def _filters(network: Network) -> dict[int, Pixels]:
    """Draw each convolution's filters; return them by the number of the layer.

    Filters of the three colour channels are drawn in colour. For filters of other channels, the
    channel with the largest weights is drawn.
    """
    drawings = {}
    for name, weight in network.weights().items():
        if weight.ndim != 4:  # noqa: PLR2004 - out, in, height, width: a convolution
            continue
        filters = weight[:_MAX_TILES].float().numpy()
        if filters.shape[1] == 3:  # noqa: PLR2004 - red, green, blue
            scaled = filters / (np.abs(filters).max((1, 2, 3), keepdims=True) + 1e-9)
            tiles = ((scaled.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
        else:
            strongest = np.abs(filters).sum((2, 3)).argmax(1)
            tiles = _colourise(filters[np.arange(len(filters)), strongest])
        drawings[int(name.partition(".")[0])] = np.stack([_enlarge(tile) for tile in tiles])
    return drawings


def _map_tiles(output: torch.Tensor) -> Pixels:
    """Draw the output of a layer: a tile for each channel, or one tile of squares for a vector."""
    values = output.float().numpy()
    if values.ndim == 1:
        side = math.ceil(math.sqrt(len(values)))
        values = np.pad(values, (0, side * side - len(values))).reshape(1, side, side)
    return np.stack([_enlarge(tile) for tile in _colourise(values[:_MAX_TILES])])


def _colourise(values: Floats) -> Pixels:
    """Colour numbers [n, height, width] on one scale, up to their 99.5th percentile."""
    scale = float(np.percentile(np.abs(values), 99.5)) or float(np.abs(values).max()) or 1.0
    level = np.clip(values / scale, -1, 1)[..., None]
    colours: Pixels = np.where(level > 0, level * _POSITIVE, -level * _NEGATIVE).astype(np.uint8)
    return colours


def _enlarge(tile: Pixels) -> Pixels:
    """Repeat pixels until a tile has the minimum size."""
    times = math.ceil(_MIN_SIDE / tile.shape[0])
    return tile.repeat(times, 0).repeat(times, 1)


def _arrange(tiles: Pixels) -> Pixels:
    """Arrange tiles [n, height, width, 3] in a grid on grey."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles.shape[1] + _GAP, tiles.shape[2] + _GAP
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), 96, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * height + _GAP, number % columns * width + _GAP
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet
