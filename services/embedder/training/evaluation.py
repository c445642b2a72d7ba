"""Evaluates an image network on images that it was not trained on: recall by edit and by label."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedder.decoding import images as image_decoding
from services.embedder.models.model import Vectors
from services.embedder.models.network import Network
from services.embedder.training.image_dataset import ImageDataset
from services.embedder.training.image_edits import EDITS, edited_jpeg

_BATCH = 64
_RANKS = 5


@dataclass(frozen=True)
class Recall:
    """The shares of queries with a relevant result at rank 1, and among the first five."""

    at_1: float
    at_5: float


def recall_by_edit(network: Network, files: Sequence[Path]) -> dict[str, Recall]:
    """Search for the original of each edited image among all originals, by cosine.

    Args:
        network: encodes the images.
        files: the originals.

    Returns:
        The recall by kind of edit (image_edits.py); the first, ``all``, is over all edits.
    """
    vectors = np.stack([_original_and_edits(network, file) for file in files])
    rows = np.arange(len(files))[:, None]
    hits = {
        edit: nearest(vectors[:, position], vectors[:, 0]) == rows
        for position, edit in enumerate(EDITS, 1)
    }
    overall = recall(np.concatenate(list(hits.values())))
    return {"all": overall} | {edit: recall(of_edit) for edit, of_edit in hits.items()}


def recall_by_label(network: Network, stored: ImageDataset, queries: ImageDataset) -> Recall:
    """Search for images of the same label as each query, by cosine."""
    order = nearest(_dataset_vectors(network, queries), _dataset_vectors(network, stored))
    return recall(np.array(stored.labels)[order] == np.array(queries.labels)[:, None])


def nearest(queries: Vectors, stored: Vectors) -> NDArray[np.int64]:
    """Return the rows of the five nearest stored vectors of each query.

    Args:
        queries: float32 [n, dimensions], of length 1.
        stored: float32 [m, dimensions], of length 1.

    Returns:
        int64 [n, up to 5], nearest first.
    """
    order: NDArray[np.int64] = (-queries @ stored.T).argsort(1, kind="stable")[:, :_RANKS]
    return order


def recall(hits: NDArray[np.bool_]) -> Recall:
    """Compute the recall from ``hits``, bool [queries, ranks]."""
    return Recall(float(hits[:, 0].mean()), float(hits[:, :_RANKS].any(1).mean()))


def _original_and_edits(network: Network, file: Path) -> Vectors:
    original = image_decoding.decode(file.read_bytes(), file.name)
    edits = [
        image_decoding.decode(edited_jpeg(original, edit, file.name), file.name) for edit in EDITS
    ]
    return _unit_vectors(network, [original, *edits])


def _dataset_vectors(network: Network, dataset: ImageDataset) -> Vectors:
    parts = (dataset.pixels[first : first + _BATCH] for first in range(0, len(dataset), _BATCH))
    return np.concatenate([_unit_vectors(network, map(Image.fromarray, part)) for part in parts])


def _unit_vectors(network: Network, images: Iterable[Image.Image]) -> Vectors:
    vectors = network.encode(np.stack([network.prepare(image) for image in images]))
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
