"""Random augmentations of batches of images: crop, flip, rotation, caption, colour, screenshot.

Each image of a batch is augmented separately. The augmentations are slightly stronger than common
edits of shared images, so that a trained network recognises such edits.
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


class Augmenter:
    """Augments images, with all random numbers from one seed.

    Args:
        side: width and height of the images in pixels.
        seed: equal seeds give equal views in the same order.

    Attributes:
        generator: the source of everything random.
    """

    def __init__(self, side: int, seed: int) -> None:
        rng = Random(seed)  # noqa: S311 - not for secrets
        self.generator = torch.Generator().manual_seed(seed)
        self._captions = torch.from_numpy(synthetic_images.captions(_CAPTIONS, side, rng))
        self._pages = torch.from_numpy(synthetic_images.pages(_PAGES, side, rng))

    def augment(self, images: Tensor, aspects: Tensor, strength: float) -> Tensor:
        """Make one view of each image.

        Args:
            images: uint8 [n, side, side, 3], stretched to squares.
            aspects: float32 [n], width / height before stretching, which rotation needs.
            strength: scales the probability of each augmentation; 0 to 1.

        Returns:
            float32 [n, 3, side, side], 0 to 255.
        """
        views = images.permute(0, 3, 1, 2).float()
        views = self._transform(views, aspects, strength)
        views = self._apply(views, strength * 0.6, self._caption)
        views = self._apply(views, strength, self._recolour)
        views = self._apply(views, strength * 0.4, self._screenshot)
        return self._apply(views, 0.5, self._degrade).clamp_(0, 255)

    def _apply(
        self, views: Tensor, probability: float, augmentation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Apply an augmentation to a random part of the batch."""
        chosen = (
            (torch.rand(len(views), generator=self.generator) < probability).nonzero().flatten()
        )
        if len(chosen):
            views[chosen] = augmentation(views[chosen])
        return views

    def _transform(self, views: Tensor, aspects: Tensor, strength: float) -> Tensor:
        """Crop, flip and rotate with one resampling. The outside becomes a plain colour."""
        count = len(views)
        crop = torch.where(
            self._flags(count, strength * 0.75), self._uniform(0.55, 1, 2, count), 1.0
        )
        shift = self._uniform(-1, 1, 2, count) * (1 - crop)
        degrees = torch.where(
            self._flags(count, strength * 0.5), self._uniform(-20, 20, 1, count)[0], 0.0
        )
        # Zooms out by a random share of the zoom that the rotated corners need.
        zoom = 1 + degrees.abs() / 45 * self._uniform(0, 1, 1, count)[0]
        flip = torch.where(self._flags(count, 0.5), -1.0, 1.0)
        radians = degrees * math.pi / 180
        cos, sin = radians.cos() * zoom, radians.sin() * zoom
        matrix = torch.stack(
            [
                torch.stack([flip * crop[0] * cos, crop[0] * -sin / aspects, shift[0]], 1),
                torch.stack([flip * crop[1] * sin * aspects, crop[1] * cos, shift[1]], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(views.shape), align_corners=False)
        fill = self._fill_colours(count)
        return F.grid_sample(views - fill, grid, padding_mode="zeros", align_corners=False) + fill

    def _caption(self, views: Tensor) -> Tensor:
        """Draw a caption on each view."""
        overlay = self._sample(self._captions, len(views))
        opacity = overlay[:, 3:] / 255
        return views * (1 - opacity) + overlay[:, :3] * opacity

    def _recolour(self, views: Tensor) -> Tensor:
        """Scale saturation by .1 to 1.9, brightness and contrast by .55 to 1.45."""
        count = len(views)
        luma = torch.tensor(_LUMA).view(1, 3, 1, 1)
        grey = (views * luma).sum(1, keepdim=True)
        views = grey + (views - grey) * self._uniform(0.1, 1.9, 1, count).view(-1, 1, 1, 1)
        views = (views * self._uniform(0.55, 1.45, 1, count).view(-1, 1, 1, 1)).clamp_(0, 255)
        mean = (views * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        contrast = self._uniform(0.55, 1.45, 1, count).view(-1, 1, 1, 1)
        return (mean + (views - mean) * contrast).clamp_(0, 255)

    def _screenshot(self, views: Tensor) -> Tensor:
        """Show each view smaller and slightly blurred, somewhere on a page."""
        count, side = len(views), views.shape[-1]
        scale = self._uniform(1.15, 1.65, 2, count)
        shift = self._uniform(-1, 1, 2, count) * (scale - 1)
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
        return torch.where(inside, shrunk, self._sample(self._pages, count))

    def _degrade(self, views: Tensor) -> Tensor:
        """Blur and add noise, which remove detail as strong compression does."""
        count, _, height, width = views.shape
        noise = torch.randn(count, 3, height // 2, width // 2, generator=self.generator)
        amount = self._uniform(0, 6, 1, count).view(-1, 1, 1, 1)
        return _blur(views) + F.interpolate(noise * amount, size=views.shape[2:])

    def _fill_colours(self, count: int) -> Tensor:
        """Draw a colour for each view, often white or black."""
        colours = torch.rand(count, 3, 1, 1, generator=self.generator) * 255
        plain = self._flags(count, 0.6).view(-1, 1, 1, 1)
        return torch.where(plain, (colours[:, :1] > 127).float() * 255, colours)  # noqa: PLR2004 - half

    def _sample(self, drawings: Tensor, count: int) -> Tensor:
        chosen = torch.randint(len(drawings), (count,), generator=self.generator)
        return drawings[chosen].permute(0, 3, 1, 2).float()

    def _flags(self, count: int, probability: float) -> Tensor:
        return torch.rand(count, generator=self.generator) < probability

    def _uniform(self, low: float, high: float, rows: int, count: int) -> Tensor:
        return torch.rand(rows, count, generator=self.generator) * (high - low) + low


def _blur(views: Tensor) -> Tensor:
    """Average each pixel with its neighbours."""
    return F.avg_pool2d(F.pad(views, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
