import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from services.embedder import contrast, training
from services.embedder.augmentations import Views
from services.embedder.contrast import Plan
from services.embedder.models import architecture
from services.embedder.models.network import Network, build

SMALL: dict[str, Any] = {
    "format": 1,
    "name": "small",
    "side": 32,
    "mean": [0.5, 0.5, 0.5],
    "deviation": [0.25, 0.25, 0.25],
    "mirrored": True,
    "layers": [
        {"type": "convolution", "channels": 16, "kernel": 5, "stride": 2},
        {"type": "activation", "function": "relu"},
        {"type": "pooling", "kind": "max", "size": 2},
        {"type": "convolution", "channels": 32, "kernel": 3},
        {"type": "activation", "function": "relu"},
        {"type": "pooling", "kind": "average", "size": 2},
        {"type": "flatten"},
        {"type": "dense", "units": 32},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty-two pictures of black and white patches, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(5)
    for number in range(32):
        patches = chance.integers(0, 2, (4, 5), np.uint8) * 255
        picture = Image.fromarray(patches).resize((100, 80), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:02}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def train(folder: Path, out: Path, *options: str) -> Result:
    declared = out.parent / "declared.json"
    declared.write_text(json.dumps(SMALL))
    where = ["--pictures", str(folder), "--out", str(out), "--architecture", str(declared)]
    return CliRunner().invoke(training.train, [*where, *options])


def test_a_folder_of_pictures_becomes_a_folder_that_loads(folder: Path, tmp_path: Path) -> None:
    result = train(folder, tmp_path / "net", "--epochs", "2")
    assert result.exit_code == 0, result.output
    assert "left out, no readable picture: notes.txt" in result.output
    assert "training on 24 pictures, 8 held out" in result.output
    network = Network.load(tmp_path / "net")
    assert network.digest in (tmp_path / "net" / "README.md").read_text()


def test_the_same_seed_gives_the_same_network(folder: Path, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / str(number) / "net"  # a network is called after its folder
        out.parent.mkdir()
        assert train(folder, out, "--epochs", "2", "--seed", seed).exit_code == 0
        digests.append(Network.load(out).digest)
    assert digests[0] == digests[1] != digests[2]


def test_training_teaches(folder: Path) -> None:
    declared = architecture.parse(json.dumps(SMALL))
    seen, unseen = training.split(training.read(folder)[0], hold_out=2)
    torch.manual_seed(1)
    untaught = Network(declared, build(declared))
    taught = contrast.fit(declared, seen, Plan(epochs=40))
    before, after = (
        np.mean([training.finds(network, unseen, seed) for seed in range(10, 16)])
        for network in (untaught, taught)
    )
    assert after >= before + 0.05


def test_minutes_end_a_run(folder: Path, tmp_path: Path) -> None:
    result = train(folder, tmp_path / "net", "--epochs", "100000", "--minutes", "0.02")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("files", "complaint"), [({}, "at least two"), ({"a.png": b"?"}, "at least")]
)
def test_too_few_pictures_are_refused(
    tmp_path: Path, files: dict[str, bytes], complaint: str
) -> None:
    (tmp_path / "few").mkdir()
    for name, content in files.items():
        (tmp_path / "few" / name).write_bytes(content)
    result = train(tmp_path / "few", tmp_path / "net")
    assert result.exit_code == 1
    assert complaint in result.output
    assert not (tmp_path / "net").exists()


def test_views_are_pictures_and_differ(folder: Path) -> None:
    pictures = training.read(folder)[0]
    pixels, aspects = torch.from_numpy(pictures.pixels), torch.from_numpy(pictures.aspects)
    views = Views(pixels.shape[1], seed=1)
    first, second = (views.make(pixels, aspects, strength=0.8) for _ in range(2))
    assert first.shape == (32, 3, 128, 128)
    assert first.min() >= 0
    assert first.max() <= 255
    assert ((first - second).abs().mean((1, 2, 3)) > 1).all()
    again = Views(pixels.shape[1], seed=1).make(pixels, aspects, strength=0.8)
    assert (first == again).all()
