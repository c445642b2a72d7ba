"""Reads folders of images, labels them by sub-folder, and splits them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from services.embedder.decoding import images
from services.embedder.models.network import flatten_onto_white
from services.errors import InvalidArgument

_MIN_SIDE = 128


@dataclass(frozen=True)
class ImageDataset:
    """Decoded images.

    Attributes:
        pixels: uint8 [n, side, side, 3], stretched to squares.
        aspects: float32 [n], width / height before stretching.
        names: the names of the files, relative to their folder, [n].
        labels: the labels of the images, [n]; all empty if there are no labels.
    """

    pixels: NDArray[np.uint8]
    aspects: NDArray[np.float32]
    names: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def side(self) -> int:
        """Width and height of the images in pixels."""
        return int(self.pixels.shape[1])

    def select(self, rows: NDArray[np.int64]) -> "ImageDataset":
        """Return some of the images."""
        names, labels = ([values[row] for row in rows] for values in (self.names, self.labels))
        return ImageDataset(self.pixels[rows], self.aspects[rows], names, labels)


def read(
    folder: Path, network_side: int = 0, *, labelled: bool | None = None
) -> tuple[ImageDataset, list[str]]:
    """Read the images of a folder and its sub-folders, sorted by name.

    Args:
        folder: the folder; hidden files and folders in it are ignored.
        network_side: the input size of the network to train; images are stored a third larger, so
            that crops need no enlarging.
        labelled: whether the name of the first sub-folder is the label of an image. If None, it is
            the label if there are several sub-folders and every image is in one.

    Returns:
        The images, and a message for each file that cannot be read.

    Raises:
        ValueError: ``labelled`` is true, but not every image is in one of several sub-folders.
    """
    pixels, aspects, names, problems = [], [], [], []
    side = max(_MIN_SIDE, network_side * 4 // 3)
    for name in tqdm(_files(folder), desc="reading", unit="file", mininterval=5):
        try:
            image = flatten_onto_white(images.decode((folder / name).read_bytes(), name))
        except (InvalidArgument, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        pixels.append(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)))
        aspects.append(image.width / image.height)
        names.append(name)
    stacked = np.stack(pixels) if pixels else np.empty((0, side, side, 3), np.uint8)
    labels = _labels(names, labelled)
    return ImageDataset(stacked, np.array(aspects, np.float32), names, labels), problems


def split(dataset: ImageDataset, hold_out: int) -> tuple[ImageDataset, ImageDataset]:
    """Split images into training and held-out images.

    The first of every ``hold_out`` images of a label, by name, is held out, but never the only
    image of a label. 0 holds out nothing.
    """
    positions, sizes = Counter[str](), Counter(dataset.labels)
    held_out = np.zeros(len(dataset), bool)
    for row, label in enumerate(dataset.labels):
        first = hold_out > 0 and positions[label] % hold_out == 0
        held_out[row] = first and sizes[label] > 1
        positions[label] += 1
    rows = np.arange(len(dataset))
    return dataset.select(rows[~held_out]), dataset.select(rows[held_out])


def _files(folder: Path) -> list[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.as_posix() for path in files if not any(part[0] == "." for part in path.parts)
    )


def _labels(names: Sequence[str], labelled: bool | None) -> list[str]:
    labels = [name.partition("/")[0] if "/" in name else "" for name in names]
    usable = "" not in labels and len(set(labels)) > 1
    if labelled and not usable:
        raise ValueError(
            "labels are the names of sub-folders. Put every image into one of at least two"
            " sub-folders"
        )
    return labels if usable and labelled is not False else [""] * len(names)
