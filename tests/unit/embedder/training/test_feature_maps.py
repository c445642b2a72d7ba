from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from services.embedder.models.network import Network, build
from services.embedder.training import feature_maps
from tests.fakes.networks import tiny_architecture, tiny_network

BLACK, GREY = (0, 0, 0), (96, 96, 96)


def draw(network: Network, folder: Path) -> dict[str, Image.Image]:
    files = feature_maps.draw(network, Image.linear_gradient("L"), folder)
    assert sorted(files) == sorted(folder.iterdir())
    return {file.stem: opened(file) for file in files}


def opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.copy()


def test_filters_and_the_maps_of_each_layer_are_drawn(tmp_path: Path) -> None:
    drawings = draw(tiny_network(), tmp_path / "drawn")
    assert list(drawings) == [
        "filters-00",
        "input",
        "maps-00-convolution",
        "maps-01-relu",
        "maps-02-pooling-max",
        "maps-03-tanh",
        "maps-04-pooling-average",
        "maps-05-flatten",
        "maps-06-dense",
    ]
    # Four maps of 16 x 16, 8 x 8 and 4 x 4, enlarged to 64 x 64, with gaps of 2.
    for name in ("maps-00-convolution", "maps-02-pooling-max", "maps-04-pooling-average"):
        assert drawings[name].size == (2 * 66 + 2, 2 * 66 + 2)
    assert drawings["maps-05-flatten"].size == (64 + 4, 64 + 4)  # 64 numbers, 8 x 8


def test_colours_show_signs_and_magnitudes(tmp_path: Path) -> None:
    layers = [{"type": "convolution", "channels": 3, "kernel": 1}, {"type": "flatten"}]
    declared = tiny_architecture(layers=layers, side=8)
    modules = build(declared)
    weight = torch.zeros(3, 3, 1, 1)
    modules.load_state_dict({"0.weight": weight, "0.bias": torch.tensor([1.0, -1.0, 0.0])})
    maps = draw(Network(declared, modules), tmp_path)["maps-00-convolution"]
    pixels = [maps.getpixel(at) for at in ((30, 30), (96, 30), (30, 96), (96, 96), (0, 0))]
    assert pixels == [(255, 190, 90), (70, 150, 255), BLACK, GREY, GREY]


def test_filters_of_other_channels_show_their_strongest_channel(tmp_path: Path) -> None:
    convolution = {"type": "convolution", "channels": 2, "kernel": 1}
    declared = tiny_architecture(layers=[convolution, convolution, {"type": "flatten"}], side=8)
    modules = build(declared)
    state = modules.state_dict()
    state["1.weight"] = torch.tensor([[1.0, -9.0], [9.0, 1.0]]).view(2, 2, 1, 1)
    modules.load_state_dict(state)
    filters = draw(Network(declared, modules), tmp_path)["filters-01"]
    assert filters.getpixel((30, 30)) == (70, 150, 255)
    assert filters.getpixel((96, 30)) == (255, 190, 90)


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (2, (2, 1)), (5, (3, 2)), (64, (8, 8))])
def test_tiles_are_arranged_in_a_grid(count: int, grid: tuple[int, int]) -> None:
    sheet = feature_maps._arrange(np.zeros((count, 10, 10, 3), np.uint8))
    assert (sheet.shape[1], sheet.shape[0]) == (grid[0] * 12 + 2, grid[1] * 12 + 2)
    assert (sheet == 0).all(2).sum() == count * 100
