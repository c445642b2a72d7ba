"""Teaches a network by contrast: two views of one picture attract, all other pictures repel.

The loss is NT-Xent (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", https://arxiv.org/abs/2002.05709), between a lightly and a heavily changed view.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from services.embedder import drawings
from services.embedder.augmentations import Views
from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network, build

_BATCH = 96  # pictures, each with two views
_TEMPERATURE = 0.08
_RATE = 2e-3
_WEIGHT_DECAY = 0.02
_NORM_WEIGHT = 1.0  # keeps vectors near length 1, so that inner product and L2 rank well, too
_INVENTED = 0.4  # cut-out figures for each photograph


@dataclass(frozen=True)
class Pictures:
    """Decoded training pictures.

    Attributes:
        pixels: uint8 [n, side, side, 3], stretched to squares.
        aspects: float32 [n], width / height before stretching.
        names: of the files, [n].
    """

    pixels: NDArray[np.uint8]
    aspects: NDArray[np.float32]
    names: list[str]

    def select(self, rows: NDArray[np.int64]) -> "Pictures":
        """Keep some of the pictures."""
        names = [self.names[row] for row in rows]
        return Pictures(self.pixels[rows], self.aspects[rows], names)


@dataclass(frozen=True)
class Plan:
    """How long to train, and from which seed.

    Attributes:
        epochs: how often every picture is seen; at most.
        minutes: when to end even so; the learning rate still falls to zero.
        seed: the same seed gives the same network on the same machine and number of threads, unless
            the minutes end first.
    """

    epochs: int
    minutes: float = math.inf
    seed: int = 1


def fit(architecture: Architecture, pictures: Pictures, plan: Plan) -> Network:
    """Train a network of this architecture on these pictures.

    Raises:
        ValueError: there are fewer than two pictures.
    """
    if len(pictures.pixels) < 2:  # noqa: PLR2004 - contrast needs another one
        raise ValueError("training needs at least two readable pictures")
    torch.manual_seed(plan.seed)
    pictures = _widen(pictures, plan.seed)
    module = _normalised(build(architecture)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _descend(module, architecture, pictures, plan)
    return Network(architecture, _folded(module))


def _descend(module: nn.Module, architecture: Architecture, pictures: Pictures, plan: Plan) -> None:
    views = Views(pictures.pixels.shape[1], plan.seed)
    optimiser = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    batches = _Batches(pictures, plan)
    with tqdm(total=batches.total, desc="training", unit="batch", mininterval=5) as bar:
        for pixels, aspects, progress in batches:
            optimiser.param_groups[0]["lr"] = _RATE * _schedule(progress)
            light = views.make(pixels, aspects, strength=0.25)
            heavy = views.make(pixels, aspects, strength=0.8)
            loss = _loss(_encode(module, architecture, torch.cat([light, heavy])))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            bar.update()


class _Batches:
    """Every picture once an epoch, in a new order, with the progress of the run (0 to 1)."""

    def __init__(self, pictures: Pictures, plan: Plan) -> None:
        self._pixels = torch.from_numpy(pictures.pixels)
        self._aspects = torch.from_numpy(pictures.aspects)
        self._plan = plan
        self._size = min(_BATCH, len(self._pixels))
        self.total = plan.epochs * (len(self._pixels) // self._size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        order = torch.Generator().manual_seed(self._plan.seed)
        began, done = time.monotonic(), 0
        for _ in range(self._plan.epochs):
            rows = torch.randperm(len(self._pixels), generator=order)
            whole = len(rows) // self._size * self._size
            for chosen in rows[:whole].view(-1, self._size):
                minutes = (time.monotonic() - began) / 60
                progress = max(done / self.total, minutes / self._plan.minutes)
                if progress >= 1:
                    return
                yield self._pixels[chosen], self._aspects[chosen], progress
                done += 1


def _schedule(progress: float) -> float:
    """Warm up over the first twentieth, then fall to zero along a cosine."""
    warm = min(1.0, progress / 0.05 + 0.01)
    return warm * (1 + math.cos(math.pi * progress)) / 2


def _encode(module: nn.Module, architecture: Architecture, views: Tensor) -> Tensor:
    """Shrink views to the network's side and encode them; in bfloat16 where the CPU has it."""
    size = (architecture.side, architecture.side)
    small = F.interpolate(views, size=size, mode="bilinear", antialias=True)
    mean = torch.tensor(architecture.mean).view(3, 1, 1) * 255
    deviation = torch.tensor(architecture.deviation).view(3, 1, 1) * 255
    planes = ((small - mean) / deviation).contiguous(memory_format=torch.channels_last)
    fast = torch.cpu._is_avx512_bf16_supported()  # ruinous on other CPUs; has no public name
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        vectors: Tensor = module(planes)
    return vectors.float()


def _loss(vectors: Tensor) -> Tensor:
    """NT-Xent over the two halves of the batch, and a pull of the lengths towards 1."""
    count = len(vectors) // 2
    unit = F.normalize(vectors)
    scores = (unit @ unit.T / _TEMPERATURE).fill_diagonal_(-torch.inf)
    twins = torch.arange(2 * count).roll(count)
    lengths = vectors.norm(dim=1)
    contrast: Tensor = F.cross_entropy(scores, twins)
    length: Tensor = (lengths - 1).square().mean()
    return contrast + _NORM_WEIGHT * length


def _widen(pictures: Pictures, seed: int) -> Pictures:
    """Add cut-out figures made of the same photographs."""
    count = round(len(pictures.pixels) * _INVENTED)
    invented = drawings.cutouts(pictures.pixels, count, Random(seed))  # noqa: S311 - no secrets here
    return Pictures(
        np.concatenate([pictures.pixels, invented]),
        np.concatenate([pictures.aspects, np.ones(count, np.float32)]),
        pictures.names + [""] * count,
    )


def _normalised(layers: nn.Sequential) -> nn.Sequential:
    """Follow every convolution by batch normalisation (https://arxiv.org/abs/1502.03167)."""
    return nn.Sequential(
        *(
            nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))
            if isinstance(layer, nn.Conv2d)
            else layer
            for layer in layers
        )
    )


def _folded(layers: nn.Module) -> nn.Sequential:
    """Fold the normalisation into the convolutions: the network that is kept needs none."""
    kept = copy.deepcopy(layers).eval()
    return nn.Sequential(
        *(
            fuse_conv_bn_eval(*layer)
            if isinstance(layer, nn.Sequential) and isinstance(layer[0], nn.Conv2d)
            else layer
            for layer in kept.children()
        )
    )
