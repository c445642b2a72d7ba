"""How well an image network finds again what it has not seen: recall on edits and on labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedder.decoding import images as decoding_images
from services.embedder.models.network import Network
from services.embedder.training.edits import EDITS, edited
from services.embedder.training.image_dataset import Album

Vectors = NDArray[np.float32]
_PART = 64


@dataclass(frozen=True)
class Recall:
    """Shares of queries with a right answer at rank 1, and among the first five."""

    at_1: float
    at_5: float


def on_edits(network: Network, files: Sequence[Path]) -> dict[str, Recall]:
    """Let edited pictures find their originals among ``files``, by cosine.

    Returns:
        Recall by kind of edit (edits.py), and first of all of them together.
    """
    vectors = np.stack([_original_and_edits(network, file) for file in files])
    rows = np.arange(len(files))[:, None]
    hits = {
        edit: nearest(vectors[:, place], vectors[:, 0]) == rows
        for place, edit in enumerate(EDITS, 1)
    }
    return {"all": recall(np.concatenate(list(hits.values())))} | {
        edit: recall(found) for edit, found in hits.items()
    }


def on_labels(network: Network, known: Album, asked: Album) -> Recall:
    """Let pictures find those of their label among known ones, by cosine."""
    order = nearest(_of_album(network, asked), _of_album(network, known))
    return recall(np.array(known.labels)[order] == np.array(asked.labels)[:, None])


def nearest(asked: Vectors, stored: Vectors) -> NDArray[np.int64]:
    """Return the rows of the five nearest of ``stored`` for each asked unit vector."""
    order: NDArray[np.int64] = (-asked @ stored.T).argsort(1, kind="stable")[:, :5]
    return order


def recall(hits: NDArray[np.bool_]) -> Recall:
    """Take the shares of ``hits`` [queries, ranks]."""
    return Recall(float(hits[:, 0].mean()), float(hits[:, :5].any(1).mean()))


def _original_and_edits(network: Network, file: Path) -> Vectors:
    picture = decoding_images.decode(file.read_bytes(), file.name)
    changed = [
        decoding_images.decode(edited(picture, edit, file.name), file.name) for edit in EDITS
    ]
    return _unit(network, [picture, *changed])


def _of_album(network: Network, album: Album) -> Vectors:
    parts = (album.pixels[first : first + _PART] for first in range(0, len(album), _PART))
    return np.concatenate([_unit(network, map(Image.fromarray, part)) for part in parts])


def _unit(network: Network, images: Iterable[Image.Image]) -> Vectors:
    vectors = network.encode(np.stack([network.prepare(image) for image in images]))
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
