from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.embedder.training import image_dataset
from services.embedder.training.image_dataset import ImageDataset


def write(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (number, 0, 0)).save(folder / name)
    return folder


def dataset(labels: list[str]) -> ImageDataset:
    pixels = np.zeros((len(labels), 8, 8, 3), np.uint8)
    aspects = np.ones(len(labels), np.float32)
    return ImageDataset(pixels, aspects, [str(number) for number in range(len(labels))], labels)


def test_images_are_read_sorted_by_name_and_stretched(tmp_path: Path) -> None:
    found, problems = image_dataset.read(write(tmp_path, "b.png", "a.png", "deep/c.png"))
    assert found.names == ["a.png", "b.png", "deep/c.png"]
    assert found.pixels[:, 0, 0, 0].tolist() == [1, 0, 2]
    assert found.aspects.tolist() == [2, 2, 2]
    assert found.pixels.shape == (3, 128, 128, 3)
    assert problems == []


@pytest.mark.parametrize(("network_side", "side"), [(0, 128), (32, 128), (96, 128), (224, 298)])
def test_images_are_kept_a_third_larger_than_the_input(
    tmp_path: Path, network_side: int, side: int
) -> None:
    assert image_dataset.read(write(tmp_path, "a.png"), network_side)[0].side == side


def test_unreadable_files_are_reported_and_hidden_ones_ignored(tmp_path: Path) -> None:
    write(tmp_path, "a.png", ".hidden.png", ".folder/b.png")
    (tmp_path / "notes.txt").write_text("not an image")
    found, problems = image_dataset.read(tmp_path)
    assert found.names == ["a.png"]
    assert [problem.partition(":")[0] for problem in problems] == ["notes.txt"]


def test_an_empty_folder_has_no_images(tmp_path: Path) -> None:
    found, _ = image_dataset.read(tmp_path)
    assert (len(found), found.side) == (0, 128)


@pytest.mark.parametrize(
    ("names", "labelled", "labels"),
    [
        (["x/a.png", "y/deep/b.png"], None, ["x", "y"]),
        (["x/a.png", "y/b.png"], False, ["", ""]),
        (["x/a.png", "x/b.png"], None, ["", ""]),
        (["x/a.png", "b.png"], None, ["", ""]),
        (["x/a.png", "y/b.png"], True, ["x", "y"]),
    ],
)
def test_labels_are_the_names_of_sub_folders(
    tmp_path: Path, names: list[str], labelled: bool | None, labels: list[str]
) -> None:
    found, _ = image_dataset.read(write(tmp_path, *names), labelled=labelled)
    assert sorted(found.labels) == labels


@pytest.mark.parametrize("names", [["x/a.png", "b.png"], ["x/a.png", "x/b.png"]])
def test_labels_cannot_be_required_where_there_are_none(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="Put every image into one of at least two sub-folders"):
        image_dataset.read(write(tmp_path, *names), labelled=True)


def test_the_first_of_every_few_images_of_a_label_is_held_out() -> None:
    train, held_out = image_dataset.split(dataset(["x", "y", "x", "x", "x", "y", "x"]), 3)
    assert held_out.names == ["0", "1", "4"]
    assert train.names == ["2", "3", "5", "6"]
    assert train.labels == ["x", "x", "y", "x"]


def test_the_only_image_of_a_label_is_never_held_out() -> None:
    assert image_dataset.split(dataset(["x", "x", "y"]), 1)[0].names == ["2"]


def test_zero_holds_out_nothing() -> None:
    train, held_out = image_dataset.split(dataset(["x"] * 5), 0)
    assert (len(train), len(held_out)) == (5, 0)
