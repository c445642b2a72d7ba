"""Small data sets of images, made without files."""

from collections.abc import Mapping

import numpy as np

from services.embedder.training.image_dataset import ImageDataset


def random_images(count: int, side: int = 24, seed: int = 1) -> ImageDataset:
    """Return images of noise without labels."""
    rng = np.random.default_rng(seed)
    return ImageDataset(
        rng.integers(0, 256, (count, side, side, 3), np.uint8),
        rng.uniform(0.5, 2, count).astype(np.float32),
        [f"{number}.png" for number in range(count)],
        [""] * count,
    )


def plain_images(grey: Mapping[str, int], count: int, side: int = 24) -> ImageDataset:
    """Return ``count`` images per label, each in the label's shade of grey."""
    labels = [label for label in grey for _ in range(count)]
    pixels = np.stack([np.full((side, side, 3), grey[label], np.uint8) for label in labels])
    names = [f"{label}/{number}.png" for number, label in enumerate(labels)]
    return ImageDataset(pixels, np.ones(len(labels), np.float32), names, labels)
