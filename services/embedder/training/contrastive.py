"""Teaches a network without labels: two views of one picture attract, other pictures repel.

The loss is NT-Xent (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", https://arxiv.org/abs/2002.05709), between a lightly and a heavily changed view.
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

_BATCH = 96  # pictures, each with two views
_LIGHT, _HEAVY = 0.25, 0.8  # strengths of the two views
_INVENTED = 0.4  # cut-out figures for each photograph
_HELD_OUT_AT_ONCE = 512


class Contrast:
    """A lesson (see descent.py): know pictures again.

    Args:
        architecture: of the network that learns.
        seen: pictures to learn from, at least two.
        unseen: pictures that are held out.
        seed: of all that is random.
    """

    rate, weight_decay = RATE, WEIGHT_DECAY

    def __init__(self, architecture: Architecture, seen: Album, unseen: Album, seed: int) -> None:
        torch.manual_seed(seed)
        widened = _widen(seen, seed)
        self._pixels = torch.from_numpy(widened.pixels)
        self._aspects = torch.from_numpy(widened.aspects)
        self.module = Trainable(architecture)
        self._views = Views(seen.side, seed)
        self.chances = [self._views.chance]
        self._held_out = self._changed(unseen, seed) if len(unseen) > 1 else []

    def batches(self, chance: torch.Generator) -> list[Tensor]:
        """Return an epoch's batches."""
        return shuffled(len(self._pixels), min(_BATCH, len(self._pixels)), chance)

    def loss(self, rows: Tensor) -> Tensor:
        """Return NT-Xent between new views, and how far the vectors' lengths are from 1."""
        pixels, aspects = self._pixels[rows], self._aspects[rows]
        views = [self._views.make(pixels, aspects, strength) for strength in (_LIGHT, _HEAVY)]
        vectors = self.module(torch.cat(views))
        return nt_xent(vectors) + length_loss(vectors)

    def held_out_loss(self) -> float | None:
        """Return NT-Xent on the same views every time."""
        if not self._held_out:
            return None
        losses = [float(nt_xent(self.module(views))) * len(views) for views in self._held_out]
        return sum(losses) / sum(map(len, self._held_out))

    def network(self) -> Network:
        """Return what was learned."""
        return self.module.network()

    def _changed(self, album: Album, seed: int) -> list[Tensor]:
        """Make two views of each picture; uint8, at the network's side."""
        views = copy.copy(self._views)
        views.chance = torch.Generator().manual_seed(seed + 1)
        found = []
        for first in range(0, len(album) - 1, _HELD_OUT_AT_ONCE):
            part = slice(first, first + _HELD_OUT_AT_ONCE)
            pixels = torch.from_numpy(album.pixels[part])
            aspects = torch.from_numpy(album.aspects[part])
            both = [views.make(pixels, aspects, strength) for strength in (_LIGHT, _HEAVY)]
            found.append(self.module.shrink(torch.cat(both)).round().byte())
        return found


def nt_xent(vectors: Tensor) -> Tensor:
    """Return NT-Xent over the two halves of a batch."""
    count = len(vectors) // 2
    unit = F.normalize(vectors)
    scores = (unit @ unit.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    twins = torch.arange(2 * count, device=vectors.device).roll(count)
    return F.cross_entropy(scores, twins)


def _widen(album: Album, seed: int) -> Album:
    """Add cut-out figures made of the same photographs."""
    count = round(len(album) * _INVENTED)
    if not count:
        return album
    invented = synthetic_images.cutouts(album.pixels, count, Random(seed))  # noqa: S311 - no secrets here
    return Album(
        np.concatenate([album.pixels, invented]),
        np.concatenate([album.aspects, np.ones(count, np.float32)]),
        [*album.names, *[""] * count],
        [*album.labels, *[""] * count],
    )
