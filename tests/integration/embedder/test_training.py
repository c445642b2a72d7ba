import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from services.embedder.models import architecture
from services.embedder.models.network import Network, build
from services.embedder.training import command, evaluation, image_dataset
from services.embedder.training.augmentations import Views
from services.embedder.training.checkpoints import Checkpoint
from services.embedder.training.contrastive import Contrast
from services.embedder.training.trainer import Descent, Plan
from tests.conftest import ROOT

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


def patches(chance: np.random.Generator) -> Image.Image:
    """Black and white patches."""
    values = chance.integers(0, 2, (4, 5), np.uint8) * 255
    return Image.fromarray(values).resize((100, 80), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty-two pictures of patches, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(5)
    for number in range(32):
        patches(chance).save(folder / f"{number:02}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three kinds, each in a sub-folder: patches, stripes, red ones."""
    folder = tmp_path_factory.mktemp("labelled")
    chance = np.random.default_rng(6)
    for number in range(16):
        stripes = np.tile(chance.integers(0, 2, (1, 12), np.uint8) * 255, (80, 1))
        kinds = {
            "patches": patches(chance),
            "stripes": Image.fromarray(stripes).resize((100, 80)),
            "red": Image.merge("RGB", [patches(chance), *[Image.new("L", (100, 80))] * 2]),
        }
        for kind, picture in kinds.items():
            (folder / kind).mkdir(exist_ok=True)
            picture.save(folder / kind / f"{number}.png")
    return folder


def words(folder: Path, out: Path, *options: str) -> list[str]:
    declared = out.parent / "declared.json"
    declared.write_text(json.dumps(SMALL))
    where = ["--pictures", str(folder), "--out", str(out), "--architecture", str(declared)]
    return [*where, *options]


def train(folder: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(command.train, words(folder, out, *options))


def test_a_folder_of_pictures_becomes_a_folder_that_loads(folder: Path, tmp_path: Path) -> None:
    result = train(folder, tmp_path / "net", "--epochs", "2")
    assert result.exit_code == 0, result.output
    assert "left out: notes.txt: This is no whole picture" in result.output
    assert "self-supervised" in result.output
    assert "training on 24 pictures, 8 held out" in result.output
    network = Network.load(tmp_path / "net")
    card = (tmp_path / "net" / "README.md").read_text()
    for part in (network.digest, "Seed 1", "## Data", "| all |", "recall@5", "## Licence"):
        assert part in card
    assert card in result.output
    assert not (tmp_path / "net" / "checkpoint.pt").exists()


def test_the_same_seed_gives_the_same_network(folder: Path, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / str(number) / "net"  # a network is called after its folder
        out.parent.mkdir()
        assert train(folder, out, "--epochs", "2", "--seed", seed).exit_code == 0
        digests.append(Network.load(out).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_killed_training_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    options = ("--epochs", "12", "--patience", "0")
    out = tmp_path / "killed" / "net"
    killed = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "train", *words(folder, out, *options)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not (out / "checkpoint.pt").exists():
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (out / "model.safetensors").exists()
    refused = train(folder, out, "--epochs", "13")
    assert refused.exit_code == 1
    assert "of another training: its options is --epochs 12" in refused.output
    again = train(folder, out, *options)
    assert "going on where it was interrupted" in again.output
    assert train(folder, tmp_path / "whole" / "net", *options).exit_code == 0
    for name in ("model.safetensors", "architecture.json"):
        found, expected = (tmp_path / one / "net" / name for one in ("killed", "whole"))
        assert found.read_bytes() == expected.read_bytes()


class Killed(Exception):
    """The training is cut off here."""


def test_a_training_goes_on_from_the_middle_of_an_epoch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared, album = architecture.parse(json.dumps(SMALL)), image_dataset.read(folder)[0]
    seen, unseen = image_dataset.split(album, 4)
    monkeypatch.setattr("services.embedder.training.contrastive._BATCH", 8)  # four batches an epoch

    def descend(die_after: int | None, name: str) -> dict[str, torch.Tensor]:
        lesson = Contrast(declared, seen, unseen, seed=1)
        checkpoint = Checkpoint(tmp_path / name, {"options": ""})
        checkpoint.due = lambda: True  # type: ignore[method-assign]
        descent, loss, steps = Descent(lesson, Plan(3), checkpoint), lesson.loss, 0

        def count(rows: torch.Tensor) -> torch.Tensor:
            nonlocal steps
            if steps == die_after:
                raise Killed
            steps += 1
            return loss(rows)

        lesson.loss = count  # type: ignore[method-assign]
        descent.run()
        return lesson.module.state_dict()

    expected = descend(None, "whole")
    for die_after in (6, 1, 4):
        with pytest.raises(Killed):
            descend(die_after, "cut")
    found = descend(None, "cut")
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_damaged_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "checkpoint.pt").write_bytes(b"no checkpoint")
    result = train(folder, tmp_path / "net", "--epochs", "2")
    assert result.exit_code == 1
    assert "delete it to begin anew" in result.output


def test_training_teaches(folder: Path) -> None:
    declared = architecture.parse(json.dumps(SMALL))
    album = image_dataset.read(folder)[0]
    seen, unseen = image_dataset.split(album, hold_out=2)
    torch.manual_seed(1)
    untaught = Network(declared, build(declared))
    lesson = Contrast(declared, seen, unseen, seed=1)
    Descent(lesson, Plan(epochs=120)).run()
    files = [folder / name for name in unseen.names]
    before, after = (evaluation.on_edits(one, files) for one in (untaught, lesson.network()))
    assert after["all"].at_1 >= before["all"].at_1 + 0.05
    assert after["all"].at_5 >= after["all"].at_1
    assert list(after)[1:] == ["crop", "mirror", "rotate", "caption", "recolour", "screenshot"]


def test_sub_folders_are_labels(labelled: Path, tmp_path: Path) -> None:
    result = train(labelled, tmp_path / "net", "--epochs", "40")
    assert result.exit_code == 0, result.output
    assert "supervised: 3 labels, the sub-folders patches, red, stripes" in result.output
    assert "training on 36 pictures, 12 held out" in result.output
    assert "whose label is told right: 100.0%" in result.output
    album = image_dataset.read(labelled)[0]
    seen, unseen = image_dataset.split(album, 4)
    assert sorted(set(unseen.labels)) == ["patches", "red", "stripes"]
    assert evaluation.on_labels(Network.load(tmp_path / "net"), seen, unseen).at_1 == 1


def test_labels_may_be_passed_over_but_not_invented(
    labelled: Path, folder: Path, tmp_path: Path
) -> None:
    plain = train(labelled, tmp_path / "net", "--epochs", "1", "--no-labels")
    assert "self-supervised" in plain.output
    refused = train(folder, tmp_path / "other", "--labels")
    assert refused.exit_code == 1
    assert "put every picture into one" in refused.output


def test_the_only_picture_of_a_label_is_learned_from() -> None:
    names, labels = ["a", "b", "c", "d"], ["x", "x", "x", "y"]
    album = image_dataset.Album(
        np.zeros((4, 8, 8, 3), np.uint8), np.ones(4, np.float32), names, labels
    )
    seen, unseen = image_dataset.split(album, 4)
    assert (seen.names, unseen.names) == (["b", "c", "d"], ["a"])
    assert len(image_dataset.split(album, 0)[1]) == 0


def test_it_stops_early_and_keeps_the_best_epoch(folder: Path) -> None:
    declared = architecture.parse(json.dumps(SMALL))
    seen, unseen = image_dataset.split(image_dataset.read(folder)[0], 4)
    lesson = Contrast(declared, seen, unseen, seed=1)
    real, losses = lesson.held_out_loss, iter([3.0, 1.0, 2.0, 1.5])
    best: list[float | None] = []

    def held_out() -> float:
        best.append(real())
        return next(losses)

    lesson.held_out_loss = held_out  # type: ignore[method-assign]
    progress = Descent(lesson, Plan(epochs=50, patience=2)).run()
    assert (progress.epoch, progress.best) == (4, 2)
    with torch.no_grad():
        assert real() == pytest.approx(best[1])


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


def test_either_pictures_or_pairs_are_given(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(command.train, ["--out", str(tmp_path / "net")])
    assert result.exit_code == 2
    assert "either --pictures or --pairs" in result.output


def test_all_cannot_be_held_out(folder: Path, tmp_path: Path) -> None:
    result = train(folder, tmp_path / "net", "--hold-out", "1")
    assert result.exit_code == 2
    assert "nothing to learn from" in result.output


def test_large_networks_learn_from_large_pictures(folder: Path) -> None:
    assert image_dataset.read(folder)[0].side == 128
    assert image_dataset.read(folder, 224)[0].side == 298


def test_a_network_is_drawn(folder: Path, tmp_path: Path) -> None:
    assert train(folder, tmp_path / "net", "--epochs", "1").exit_code == 0
    where = ["--network", str(tmp_path / "net"), "--out", str(tmp_path / "drawn")]
    result = CliRunner().invoke(command.visualize, [str(folder / "03.png"), *where])
    assert result.exit_code == 0, result.output
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == sorted(path.name for path in (tmp_path / "net" / "pictures").iterdir())
    assert [name for name in drawn if "filters" in name] == ["filters-00.png", "filters-03.png"]
    maps = {name: Image.open(tmp_path / "drawn" / name) for name in drawn if "maps" in name}
    assert len(maps) == len(SMALL["layers"])
    pooled = maps["maps-02-pooling-max.png"]
    assert pooled.size == (4 * 66 + 2, 4 * 66 + 2)  # sixteen maps of 8 x 8, eight times enlarged
    assert all(len(set(picture.convert("L").tobytes())) > 2 for picture in maps.values())


def test_maps_are_what_the_layers_compute(tmp_path: Path) -> None:
    declared = architecture.parse(json.dumps(SMALL))
    network = Network(declared, build(declared))
    picture = network.prepare(Image.linear_gradient("L"))
    plain = Network(architecture.parse(json.dumps(SMALL | {"mirrored": False})), network._layers)
    seen = network.feature_maps(picture)
    assert [tuple(values.shape) for values in seen[:3]] == [(16, 16, 16), (16, 16, 16), (16, 8, 8)]
    np.testing.assert_allclose(seen[-1].numpy(), plain.encode(picture[None])[0], atol=1e-5)


def test_views_are_pictures_and_differ(folder: Path) -> None:
    pictures = image_dataset.read(folder)[0]
    pixels, aspects = torch.from_numpy(pictures.pixels), torch.from_numpy(pictures.aspects)
    views = Views(pixels.shape[1], seed=1)
    first, second = (views.make(pixels, aspects, strength=0.8) for _ in range(2))
    assert first.shape == (32, 3, 128, 128)
    assert first.min() >= 0
    assert first.max() <= 255
    assert ((first - second).abs().mean((1, 2, 3)) > 1).all()
    again = Views(pixels.shape[1], seed=1).make(pixels, aspects, strength=0.8)
    assert (first == again).all()
