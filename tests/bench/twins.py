"""How often an edited picture finds its original: the shipped network beside two simple measures.

``python -m tests.bench.twins`` prints recall@1 for each kind of edit, in percent, for 72 memes
(none of them seen in training) and for the 200 held-out photographs, each among its own kind. The
data lie in the folder that MEMETWIN_TEST_DATA names.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedder.models.network import SHIPPED, Network, over_white
from tests.edits import EDITS, edited

Vectors = NDArray[np.float32]
Encoder = Callable[[list[Image.Image]], Vectors]
Recall = dict[str, dict[str, float]]
HELD_OUT = 4  # training leaves out the first of every four photographs, sorted by name


def data_folder() -> Path:
    """Where the test data lie; may be absent."""
    return Path(os.environ.get("MEMETWIN_TEST_DATA", "../shared/data"))


def memes() -> list[Path]:
    """The meme pictures, by name."""
    return sorted((data_folder() / "memes").iterdir())


def held_out_photos() -> list[Path]:
    """The photographs that training has not seen, by name."""
    return sorted((data_folder() / "photos").iterdir())[::HELD_OUT]


def ranks(asked: Vectors, stored: Vectors) -> dict[str, NDArray[np.int64]]:
    """Nearest stored row for each asked row, by each metric."""
    unit_asked, unit_stored = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (asked, stored)
    )
    squares = (stored**2).sum(1) - 2 * asked @ stored.T  # squared L2, less what a row has in common
    return {
        "cosine": (unit_asked @ unit_stored.T).argmax(1),
        "ip": (asked @ stored.T).argmax(1),
        "l2": squares.argmin(1),
    }


def recall(encode: Encoder, files: list[Path]) -> Recall:
    """Share found at rank 1 by each kind of edit ("none": the file itself) and metric."""
    pictures: list[Image.Image] = [Image.open(file) for file in files]
    stored = encode(pictures)
    found = {"none": ranks(encode([picture.copy() for picture in pictures]), stored)}
    for edit in EDITS:
        changed = [
            edited(picture, edit, path.name) for picture, path in zip(pictures, files, strict=True)
        ]
        found[edit] = ranks(encode(changed), stored)
    rows = np.arange(len(files))
    return {
        edit: {metric: float((nearest == rows).mean()) for metric, nearest in by_metric.items()}
        for edit, by_metric in found.items()
    }


def overall(recalls: Recall, metric: str) -> float:
    """Share over all edits together, the unchanged file left out."""
    return float(np.mean([recalls[edit][metric] for edit in EDITS]))


def with_network(network: Network) -> Encoder:
    """Encode by a network."""
    return lambda pictures: network.encode(np.stack([network.prepare(each) for each in pictures]))


def perceptual_hash(pictures: list[Image.Image]) -> Vectors:
    """Signs of the 8 x 8 lowest frequencies of 32 x 32 greys against their median (pHash)."""
    row, column = np.mgrid[0:8, 0:32]
    cosines = np.cos(np.pi * row * (2 * column + 1) / 64)
    grey = np.stack(
        [np.asarray(over_white(p).convert("L").resize((32, 32)), float) for p in pictures]
    )
    low = (cosines @ grey @ cosines.T).reshape(len(pictures), 64)
    signs: Vectors = np.sign(low - np.median(low, axis=1, keepdims=True)).astype(np.float32)
    return signs


def colour_histogram(pictures: list[Image.Image]) -> Vectors:
    """Square roots of the shares of 8 x 8 x 8 colours: their cosine is Bhattacharyya's."""
    shares = []
    for picture in pictures:
        pixels = np.asarray(over_white(picture)).reshape(-1, 3).astype(int) // 32
        counts = np.bincount(pixels @ (64, 8, 1), minlength=512)
        shares.append(np.sqrt(counts / counts.sum()))
    return np.array(shares, np.float32)


def _print(title: str, encode: Encoder, files: list[Path], metrics: tuple[str, ...]) -> None:
    recalls = recall(encode, files)
    for metric in metrics:
        cells = "".join(f"{100 * recalls[edit][metric]:11.1f}" for edit in recalls)
        print(f"{title:<17} {metric:<7}{100 * overall(recalls, metric):7.2f}{cells}")


def main(folder: Path) -> None:
    """Print the table."""
    network = with_network(Network.load(folder))
    for kind, files in {"memes": memes(), "held-out photos": held_out_photos()}.items():
        heads = "".join(f"{edit:>11}" for edit in ("none", *EDITS))
        print(f"\n{len(files)} {kind}, recall@1 in %\n{'':<17} {'metric':<7}{'edits':>7}{heads}")
        _print("network", network, files, ("cosine", "ip", "l2"))
        _print("perceptual hash", perceptual_hash, files, ("cosine",))
        _print("colour histogram", colour_histogram, files, ("cosine",))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED)
