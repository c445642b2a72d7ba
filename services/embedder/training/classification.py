"""Supervised training: moves the views of an image towards the direction of its label.

The loss is cross-entropy over the cosines between a vector and one learned direction for each label
(Wang et al. 2017, "NormFace", https://arxiv.org/abs/1704.06369), so that training optimises the
cosines that searches compare.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network
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

_BATCH = 96
_STRENGTH = 0.5
_HELD_OUT_BATCH = 512


class ClassificationObjective:
    """The objective of distinguishing labels (see trainer.Objective).

    It has the same arguments as ``ContrastiveObjective``.
    """

    learning_rate, weight_decay = LEARNING_RATE, WEIGHT_DECAY

    def __init__(
        self, architecture: Architecture, train: ImageDataset, held_out: ImageDataset, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.labels = sorted(set(train.labels))
        self._train, self._held_out = train, held_out
        self._targets = self._label_numbers(train)
        self._network = TrainableNetwork(architecture)
        self._directions = nn.Linear(architecture.dimensions, len(self.labels), bias=False)
        self._directions.to(self._network.mean.device)
        self.module = nn.ModuleList([self._network, self._directions])
        self._augmenter = Augmenter(train.side, seed)
        self.generators = [self._augmenter.generator]

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the row numbers of each batch of an epoch."""
        return shuffled_batches(len(self._train), min(_BATCH, len(self._train)), generator)

    def loss(self, rows: Tensor) -> Tensor:
        """Compute the cross-entropy of new views, plus the unit-norm loss."""
        pixels = torch.from_numpy(self._train.pixels)[rows]
        aspects = torch.from_numpy(self._train.aspects)[rows]
        vectors = self._network(self._augmenter.augment(pixels, aspects, _STRENGTH))
        logits = self._logits(vectors)
        targets = self._targets[rows].to(logits.device)
        return F.cross_entropy(logits, targets) + unit_norm_loss(vectors)

    def held_out_loss(self) -> float | None:
        """Compute the cross-entropy of the held-out images, without augmentation."""
        if not len(self._held_out):
            return None
        targets = self._label_numbers(self._held_out)
        return F.cross_entropy(self._held_out_logits(), targets).item()

    def accuracy(self) -> float:
        """Compute the share of held-out images that are nearest to their own label's direction."""
        with torch.no_grad():
            predicted = self._held_out_logits().argmax(1)
        return (predicted == self._label_numbers(self._held_out)).float().mean().item()

    def network(self) -> Network:
        """Return the trained network, without the directions of the labels."""
        return self._network.network()

    def _held_out_logits(self) -> Tensor:
        pixels = torch.from_numpy(self._held_out.pixels).permute(0, 3, 1, 2)
        parts = torch.split(pixels, _HELD_OUT_BATCH)
        return torch.cat([self._logits(self._network(part)) for part in parts]).cpu()

    def _logits(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors) @ F.normalize(self._directions.weight).T / TEMPERATURE

    def _label_numbers(self, dataset: ImageDataset) -> Tensor:
        return torch.tensor([self.labels.index(label) for label in dataset.labels])
