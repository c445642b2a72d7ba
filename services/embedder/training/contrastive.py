"""Self-supervised training: two views of one image attract each other, other images repel.

The loss is NT-Xent (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", https://arxiv.org/abs/2002.05709), between a weakly and a strongly augmented view.
"""

import copy
from random import Random

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network
from services.embedder.training import synthetic_images
from services.embedder.training.augmentations import Augmenter
from services.embedder.training.image_dataset import ImageDataset
from services.embedder.training.trainable_network import (
    LEARNING_RATE,
    TEMPERATURE,
    WEIGHT_DECAY,
    TrainableNetwork,
    unit_norm_loss,
)
from services.embedder.training.trainer import shuffled_batches

_BATCH = 96  # images, each with two views
_WEAK, _STRONG = 0.25, 0.8  # strengths of the two views
_CUTOUTS_PER_IMAGE = 0.4
_HELD_OUT_BATCH = 512


class ContrastiveObjective:
    """The objective of learning to recognise images without labels (see trainer.Objective).

    Args:
        architecture: the architecture of the network to train.
        train: images to learn from, at least two.
        held_out: images for the held-out loss.
        seed: seed of the random numbers.
    """

    learning_rate, weight_decay = LEARNING_RATE, WEIGHT_DECAY

    def __init__(
        self, architecture: Architecture, train: ImageDataset, held_out: ImageDataset, seed: int
    ) -> None:
        torch.manual_seed(seed)
        extended = _add_cutouts(train, seed)
        self._pixels = torch.from_numpy(extended.pixels)
        self._aspects = torch.from_numpy(extended.aspects)
        self.module = TrainableNetwork(architecture)
        self._augmenter = Augmenter(train.side, seed)
        self.generators = [self._augmenter.generator]
        self._held_out = self._held_out_views(held_out, seed) if len(held_out) > 1 else []

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the row numbers of each batch of an epoch."""
        return shuffled_batches(len(self._pixels), min(_BATCH, len(self._pixels)), generator)

    def loss(self, rows: Tensor) -> Tensor:
        """Compute NT-Xent between new views, plus the unit-norm loss."""
        vectors = self.module(_two_views(self._augmenter, self._pixels[rows], self._aspects[rows]))
        return nt_xent(vectors) + unit_norm_loss(vectors)

    def held_out_loss(self) -> float | None:
        """Compute NT-Xent between views of the held-out images, which are the same every time."""
        if not self._held_out:
            return None
        losses = [nt_xent(self.module(views)).item() * len(views) for views in self._held_out]
        return sum(losses) / sum(map(len, self._held_out))

    def network(self) -> Network:
        """Return the trained network."""
        return self.module.network()

    def _held_out_views(self, dataset: ImageDataset, seed: int) -> list[Tensor]:
        """Make two views of each image, uint8 of the network's size."""
        augmenter = copy.copy(self._augmenter)
        augmenter.generator = torch.Generator().manual_seed(seed + 1)
        batches = []
        for first in range(0, len(dataset) - 1, _HELD_OUT_BATCH):
            part = slice(first, first + _HELD_OUT_BATCH)
            pixels = torch.from_numpy(dataset.pixels[part])
            views = _two_views(augmenter, pixels, torch.from_numpy(dataset.aspects[part]))
            batches.append(self.module.resize(views).round().byte())
        return batches


def nt_xent(vectors: Tensor) -> Tensor:
    """Compute NT-Xent.

    Args:
        vectors: float32 [2n, dimensions]; rows i and n + i are views of one image.

    Returns:
        The mean cross-entropy, a scalar.
    """
    count = len(vectors) // 2
    unit = F.normalize(vectors)
    logits = (unit @ unit.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    other_view = torch.arange(2 * count, device=vectors.device).roll(count)
    return F.cross_entropy(logits, other_view)


def _two_views(augmenter: Augmenter, pixels: Tensor, aspects: Tensor) -> Tensor:
    """Make a weak view of each image, then a strong view of each."""
    views = [augmenter.augment(pixels, aspects, strength) for strength in (_WEAK, _STRONG)]
    return torch.cat(views)


def _add_cutouts(dataset: ImageDataset, seed: int) -> ImageDataset:
    """Add cut-outs of the same photographs."""
    count = round(len(dataset) * _CUTOUTS_PER_IMAGE)
    if not count:
        return dataset
    rng = Random(seed)  # noqa: S311 - not for secrets
    cutouts = synthetic_images.cutouts(dataset.pixels, count, rng)
    return ImageDataset(
        np.concatenate([dataset.pixels, cutouts]),
        np.concatenate([dataset.aspects, np.ones(count, np.float32)]),
        [*dataset.names, *[""] * count],
        [*dataset.labels, *[""] * count],
    )
