"""Folders of pictures to learn from: read, labelled by sub-folder, parted."""

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

_LEAST_SIDE = 128


@dataclass(frozen=True)
class Album:
    """Decoded pictures.

    Attributes:
        pixels: uint8 [n, side, side, 3], stretched to squares.
        aspects: float32 [n], width / height before stretching.
        names: of the files within their folder, [n].
        labels: of the pictures, [n]; all empty if there are none.
    """

    pixels: NDArray[np.uint8]
    aspects: NDArray[np.float32]
    names: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def side(self) -> int:
        """Pixels of each side."""
        return int(self.pixels.shape[1])

    def select(self, rows: NDArray[np.int64]) -> "Album":
        """Keep some of the pictures."""
        names, labels = ([values[row] for row in rows] for values in (self.names, self.labels))
        return Album(self.pixels[rows], self.aspects[rows], names, labels)


def read(folder: Path, side: int = 0, *, labelled: bool | None = None) -> tuple[Album, list[str]]:
    """Read all pictures of a folder and its sub-folders, sorted by name.

    Args:
        folder: hidden files in it are passed over.
        side: of the network that shall learn from them: they are kept a third larger.
        labelled: whether the first sub-folder is a picture's label; None: if every picture lies in
            one of several.

    Returns:
        The pictures, and what is wrong with the files that were left out.

    Raises:
        ValueError: they shall be labelled, but are not all in sub-folders, or in a single one.
    """
    pixels, aspects, names, problems = [], [], [], []
    kept = max(_LEAST_SIDE, side * 4 // 3)
    for name in tqdm(_files(folder), desc="reading", unit="file", mininterval=5):
        try:
            image = flatten_onto_white(images.decode((folder / name).read_bytes(), name))
        except (InvalidArgument, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        pixels.append(np.asarray(image.resize((kept, kept), Image.Resampling.BICUBIC)))
        aspects.append(image.width / image.height)
        names.append(name)
    stacked = np.stack(pixels) if pixels else np.empty((0, kept, kept, 3), np.uint8)
    labels = _labels(names, labelled)
    return Album(stacked, np.array(aspects, np.float32), names, labels), problems


def split(album: Album, hold_out: int) -> tuple[Album, Album]:
    """Part pictures into those to learn from and those held out.

    Of every ``hold_out`` pictures of a label, by name, the first is held out; 0 holds out none, and
    the only picture of a label is never held out.
    """
    ranks, sizes = Counter[str](), Counter(album.labels)
    out = np.zeros(len(album), bool)
    for row, label in enumerate(album.labels):
        out[row] = hold_out > 0 and ranks[label] % hold_out == 0 and sizes[label] > 1
        ranks[label] += 1
    rows = np.arange(len(album))
    return album.select(rows[~out]), album.select(rows[out])


def _files(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.as_posix() for path in found if not any(part[0] == "." for part in path.parts)
    )


def _labels(names: Sequence[str], labelled: bool | None) -> list[str]:
    labels = [name.partition("/")[0] if "/" in name else "" for name in names]
    usable = "" not in labels and len(set(labels)) > 1
    if labelled and not usable:
        raise ValueError(
            "labels are the names of sub-folders: put every picture into one, and make two at least"
        )
    return labels if usable and labelled is not False else [""] * len(names)
