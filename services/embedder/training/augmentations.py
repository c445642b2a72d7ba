"""Changed views of pictures, made in batches on tensors: what training calls the same picture.

Each change is drawn for each picture alone and reaches a little further than what a picture meets
on its way through chats and screens: cut, mirrored, turned, captioned, recoloured, shrunk.
"""

import math
from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from services.embedder.training import synthetic_images

_CAPTIONS = 600
_PAGES = 200
_LUMA = (0.299, 0.587, 0.114)


class Views:
    """Makes views; everything random comes from one seed.

    Args:
        side: pixels of each side of the pictures that will come in.
        seed: the same seed gives the same views in the same order.

    Attributes:
        chance: where every choice comes from.
    """

    def __init__(self, side: int, seed: int) -> None:
        chance = Random(seed)  # noqa: S311 - no secrets here
        self.chance = torch.Generator().manual_seed(seed)
        self._captions = torch.from_numpy(synthetic_images.captions(_CAPTIONS, side, chance))
        self._pages = torch.from_numpy(synthetic_images.pages(_PAGES, side, chance))

    def make(self, pictures: Tensor, aspects: Tensor, strength: float) -> Tensor:
        """Make one view of each picture.

        Args:
            pictures: uint8 [n, side, side, 3], stretched to squares.
            aspects: float32 [n], width / height before stretching: turning needs it.
            strength: how probable each change is; 0 to 1.

        Returns:
            float32 [n, 3, side, side], 0 to 255.
        """
        views = pictures.permute(0, 3, 1, 2).float()
        views = self._reframe(views, aspects, strength)
        views = self._some(views, strength * 0.6, self._caption)
        views = self._some(views, strength, self._recolour)
        views = self._some(views, strength * 0.4, self._screenshot)
        return self._some(views, 0.5, self._degrade).clamp_(0, 255)

    def _some(
        self, views: Tensor, probability: float, change: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Change a random part of the batch."""
        chosen = (torch.rand(len(views), generator=self.chance) < probability).nonzero().flatten()
        if len(chosen):
            views[chosen] = change(views[chosen])
        return views

    def _reframe(self, views: Tensor, aspects: Tensor, strength: float) -> Tensor:
        """Cut, mirror and turn in one resampling; what lies outside becomes a plain colour."""
        count = len(views)
        keep = torch.where(
            self._flags(count, strength * 0.75), self._between(0.55, 1, 2, count), 1.0
        )
        shift = self._between(-1, 1, 2, count) * (1 - keep)
        turn = torch.where(
            self._flags(count, strength * 0.5), self._between(-20, 20, 1, count)[0], 0.0
        )
        zoom = (
            1 + turn.abs() / 45 * self._between(0, 1, 1, count)[0]
        )  # room for the corners, or not
        sign = torch.where(self._flags(count, 0.5), -1.0, 1.0)
        cos, sin = (turn * math.pi / 180).cos() * zoom, (turn * math.pi / 180).sin() * zoom
        matrix = torch.stack(
            [
                torch.stack([sign * keep[0] * cos, keep[0] * -sin / aspects, shift[0]], 1),
                torch.stack([sign * keep[1] * sin * aspects, keep[1] * cos, shift[1]], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(views.shape), align_corners=False)
        ground = self._ground(count)
        return (
            F.grid_sample(views - ground, grid, padding_mode="zeros", align_corners=False) + ground
        )

    def _caption(self, views: Tensor) -> Tensor:
        """Write on it."""
        overlay = self._drawn(self._captions, len(views))
        opacity = overlay[:, 3:] / 255
        return views * (1 - opacity) + overlay[:, :3] * opacity

    def _recolour(self, views: Tensor) -> Tensor:
        """Change colour by .1 to 1.9, brightness and contrast by .55 to 1.45."""
        count = len(views)
        luma = torch.tensor(_LUMA).view(1, 3, 1, 1)
        grey = (views * luma).sum(1, keepdim=True)
        views = grey + (views - grey) * self._between(0.1, 1.9, 1, count).view(-1, 1, 1, 1)
        views = (views * self._between(0.55, 1.45, 1, count).view(-1, 1, 1, 1)).clamp_(0, 255)
        middle = (views * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        contrast = self._between(0.55, 1.45, 1, count).view(-1, 1, 1, 1)
        return (middle + (views - middle) * contrast).clamp_(0, 255)

    def _screenshot(self, views: Tensor) -> Tensor:
        """Show it smaller, somewhere on a page, a little blurred."""
        count, side = len(views), views.shape[-1]
        scale = self._between(1.15, 1.65, 2, count)
        shift = self._between(-1, 1, 2, count) * (scale - 1)
        zero = torch.zeros(count)
        matrix = torch.stack(
            [
                torch.stack([scale[0], zero, shift[0]], 1),
                torch.stack([zero, scale[1], shift[1]], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, [count, 3, side, side], align_corners=False)
        inside = (grid.abs().amax(3) <= 1).unsqueeze(1)
        shrunk = F.grid_sample(_blur(views), grid, padding_mode="border", align_corners=False)
        return torch.where(inside, shrunk, self._drawn(self._pages, count))

    def _degrade(self, views: Tensor) -> Tensor:
        """Lose detail as strong compression does: blur and noise."""
        noise = torch.randn(
            views.shape[0], 3, views.shape[2] // 2, views.shape[3] // 2, generator=self.chance
        )
        amount = self._between(0, 6, 1, len(views)).view(-1, 1, 1, 1)
        return _blur(views) + F.interpolate(noise * amount, size=views.shape[2:])

    def _ground(self, count: int) -> Tensor:
        """A plain colour for each picture: often white or black."""
        colours = torch.rand(count, 3, 1, 1, generator=self.chance) * 255
        plain = self._flags(count, 0.6).view(-1, 1, 1, 1)
        return torch.where(plain, (colours[:, :1] > 127).float() * 255, colours)  # noqa: PLR2004

    def _drawn(self, bank: Tensor, count: int) -> Tensor:
        chosen = torch.randint(len(bank), (count,), generator=self.chance)
        return bank[chosen].permute(0, 3, 1, 2).float()

    def _flags(self, count: int, probability: float) -> Tensor:
        return torch.rand(count, generator=self.chance) < probability

    def _between(self, low: float, high: float, rows: int, count: int) -> Tensor:
        return torch.rand(rows, count, generator=self.chance) * (high - low) + low


def _blur(views: Tensor) -> Tensor:
    """Average each pixel with its neighbours."""
    return F.avg_pool2d(F.pad(views, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
