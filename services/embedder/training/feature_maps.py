"""Pictures of a network: what its convolutions look for, and what each layer sees of a picture.

Numbers become colours: black is zero, the warmer the more above it, the bluer the more below.
"""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from services.embedder.models import layers as kinds
from services.embedder.models.network import Network

_TILES = 64  # channels that are shown of each layer
_LEAST = 64  # pixels of a tile's side
_GAP = 2
_WARM, _BLUE = np.array([255, 190, 90]), np.array([70, 150, 255])

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def draw(network: Network, picture: Image.Image, folder: Path) -> list[Path]:
    """Draw a network's filters and what it sees of a picture; what is there is replaced.

    Args:
        network: whose layers are numbered as in its declaration.
        picture: of any size and mode, upright.
        folder: made if need be.

    Returns:
        The files: ``filters-NN.png`` for each convolution, ``input.png``, and for each layer
        ``maps-NN-KIND.png``: the maps of up to 64 channels, or a vector as squares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"filters-{n:02}": tiles for n, tiles in _filters(network).items()}
    prepared = network.prepare(picture)
    drawn["input"] = _enlarged(prepared)[None]
    declared = network.architecture.layers
    for number, (layer, seen) in enumerate(
        zip(declared, network.feature_maps(prepared), strict=True)
    ):
        drawn[f"maps-{number:02}-{_name(layer)}"] = _maps(seen)
    files = []
    for name, tiles in drawn.items():
        files.append(folder / f"{name}.png")
        Image.fromarray(_sheet(tiles)).save(files[-1])
    return files


def _filters(network: Network) -> dict[int, Pixels]:
    """Draw each convolution's filters: in colour where they look at colours.

    Of a filter that looks at many channels, the plane with the greatest weights is shown.
    """
    found = {}
    for name, weight in network.weights().items():
        if weight.ndim != 4:  # noqa: PLR2004 - out, in, height, width: a convolution
            continue
        filters = weight[:_TILES].float().numpy()
        if filters.shape[1] == 3:  # noqa: PLR2004 - red, green, blue
            scaled = filters / (np.abs(filters).max((1, 2, 3), keepdims=True) + 1e-9)
            tiles = ((scaled.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
        else:
            strongest = np.abs(filters).sum((2, 3)).argmax(1)
            tiles = _colours(filters[np.arange(len(filters)), strongest])
        found[int(name.partition(".")[0])] = np.stack([_enlarged(tile) for tile in tiles])
    return found


def _maps(seen: torch.Tensor) -> Pixels:
    """Draw what a layer gave: its channels, or a vector as one picture of squares."""
    values = seen.float().numpy()
    if values.ndim == 1:
        side = math.ceil(math.sqrt(len(values)))
        values = np.pad(values, (0, side * side - len(values))).reshape(1, side, side)
    return np.stack([_enlarged(tile) for tile in _colours(values[:_TILES])])


def _colours(values: Floats) -> Pixels:
    """Colour numbers [n, height, width] on one scale; its end is their 99.5th percentile."""
    scale = float(np.percentile(np.abs(values), 99.5)) or float(np.abs(values).max()) or 1.0
    level = np.clip(values / scale, -1, 1)[..., None]
    colours: Pixels = np.where(level > 0, level * _WARM, -level * _BLUE).astype(np.uint8)
    return colours


def _enlarged(tile: Pixels) -> Pixels:
    """Repeat pixels until a tile is large enough to be seen."""
    times = math.ceil(_LEAST / tile.shape[0])
    return tile.repeat(times, 0).repeat(times, 1)


def _sheet(tiles: Pixels) -> Pixels:
    """Lay tiles [n, height, width, 3] in rows, on grey."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles.shape[1] + _GAP, tiles.shape[2] + _GAP
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), 96, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * height + _GAP, number % columns * width + _GAP
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _name(layer: kinds.Layer) -> str:
    match layer:
        case kinds.Activation(function):
            return function
        case kinds.Pooling(kind) | kinds.GlobalPooling(kind):
            return f"{layer.type}-{kind}"
        case _:
            return layer.type
