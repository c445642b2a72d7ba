"""Teaches a network labels: views of a picture come to lie near the direction of its label.

The loss is cross-entropy over cosines between vectors and one learned direction for each label
(Wang et al. 2017, "NormFace", https://arxiv.org/abs/1704.06369), so that what is served, vectors
compared by cosine, is what was taught.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network
from services.embedder.training.augmentations import Views
from services.embedder.training.image_dataset import Album
from services.embedder.training.trainable import (
    RATE,
    TEMPERATURE,
    WEIGHT_DECAY,
    Trainable,
    length_loss,
)
from services.embedder.training.trainer import shuffled

_BATCH = 96
_STRENGTH = 0.5
_HELD_OUT_AT_ONCE = 512


class Classes:
    """A lesson (see descent.py): tell labels apart. The arguments are those of ``Contrast``."""

    rate, weight_decay = RATE, WEIGHT_DECAY

    def __init__(self, architecture: Architecture, seen: Album, unseen: Album, seed: int) -> None:
        torch.manual_seed(seed)
        self.labels = sorted(set(seen.labels))
        self._seen, self._unseen = seen, unseen
        self._targets = self._numbers(seen)
        self._trainable = Trainable(architecture)
        self._directions = nn.Linear(architecture.dimensions, len(self.labels), bias=False)
        self._directions.to(self._trainable.mean.device)
        self.module = nn.ModuleList([self._trainable, self._directions])
        self._views = Views(seen.side, seed)
        self.chances = [self._views.chance]

    def batches(self, chance: torch.Generator) -> list[Tensor]:
        """Return an epoch's batches."""
        return shuffled(len(self._seen), min(_BATCH, len(self._seen)), chance)

    def loss(self, rows: Tensor) -> Tensor:
        """Return the cross-entropy of new views, and how far the lengths are from 1."""
        pixels = torch.from_numpy(self._seen.pixels)[rows]
        aspects = torch.from_numpy(self._seen.aspects)[rows]
        vectors = self._trainable(self._views.make(pixels, aspects, _STRENGTH))
        scores = self._scores(vectors)
        targets = self._targets[rows].to(scores.device)
        return F.cross_entropy(scores, targets) + length_loss(vectors)

    def held_out_loss(self) -> float | None:
        """Return the cross-entropy of unchanged pictures."""
        if not len(self._unseen):
            return None
        scores = self._held_out_scores()
        return float(F.cross_entropy(scores, self._numbers(self._unseen)))

    def accuracy(self) -> float:
        """Return the share of held-out pictures whose label is told right."""
        with torch.no_grad():
            told = self._held_out_scores().argmax(1)
        return float((told == self._numbers(self._unseen)).float().mean())

    def network(self) -> Network:
        """Return what was learned, without the labels' directions."""
        return self._trainable.network()

    def _held_out_scores(self) -> Tensor:
        pixels = torch.from_numpy(self._unseen.pixels).permute(0, 3, 1, 2)
        parts = torch.split(pixels, _HELD_OUT_AT_ONCE)
        return torch.cat([self._scores(self._trainable(part)) for part in parts]).cpu()

    def _scores(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors) @ F.normalize(self._directions.weight).T / TEMPERATURE

    def _numbers(self, album: Album) -> Tensor:
        return torch.tensor([self.labels.index(label) for label in album.labels])
