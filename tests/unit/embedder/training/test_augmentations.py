import pytest
import torch
from torch import Tensor

from services.embedder.training.augmentations import Augmenter
from tests.fakes.datasets import random_images

pytestmark = pytest.mark.usefixtures("few_drawings")
SIDE = 32


@pytest.fixture
def augmenter() -> Augmenter:
    return Augmenter(SIDE, seed=1)


def images(count: int = 16) -> tuple[Tensor, Tensor]:
    dataset = random_images(count, SIDE)
    return torch.from_numpy(dataset.pixels), torch.from_numpy(dataset.aspects)


def views(count: int = 64, value: float = 100.0) -> Tensor:
    return torch.full((count, 3, SIDE, SIDE), value)


def test_views_are_images_of_the_same_size(augmenter: Augmenter) -> None:
    made = augmenter.augment(*images(), strength=1)
    assert made.shape == (16, 3, SIDE, SIDE)
    assert made.dtype == torch.float32
    assert made.min() >= 0
    assert made.max() <= 255


def test_each_call_makes_other_views_and_equal_seeds_make_equal_views(augmenter: Augmenter) -> None:
    first, second = (augmenter.augment(*images(), strength=0.8) for _ in range(2))
    assert ((first - second).abs().mean((1, 2, 3)) > 1).all()
    again = Augmenter(SIDE, seed=1).augment(*images(), strength=0.8)
    assert torch.equal(first, again)


def test_strength_scales_the_changes(augmenter: Augmenter) -> None:
    pixels, aspects = images(64)
    originals = pixels.permute(0, 3, 1, 2).float()

    def unchanged(strength: float) -> int:
        made = augmenter.augment(pixels, aspects, strength)
        mirrored = originals.flip(3)
        distances = [(made - one).abs().mean((1, 2, 3)) for one in (originals, mirrored)]
        return int((torch.minimum(*distances) < 1).sum())

    assert unchanged(0) > 16  # flips and loss of detail happen at any strength
    assert unchanged(1) < 4


def test_an_augmentation_is_applied_to_a_share_of_the_batch(augmenter: Augmenter) -> None:
    made = augmenter._apply(views(400), 0.25, lambda chosen: chosen + 1)
    assert 60 < int((made[:, 0, 0, 0] == 101).sum()) < 140


def test_a_transform_fills_the_outside_with_a_plain_colour(augmenter: Augmenter) -> None:
    made = augmenter._transform(views(200), torch.ones(200), 1.0)
    corners = made[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners != 100).any()
    assert torch.allclose(made[:, :, SIDE // 2, SIDE // 2], torch.tensor(100.0), atol=1e-3)


def test_a_caption_covers_a_part_of_the_view(augmenter: Augmenter) -> None:
    changed = (augmenter._caption(views(8)) != 100).float().mean((1, 2, 3))
    assert changed.min() > 0.01
    assert changed.max() < 0.9


def test_recolouring_keeps_a_plain_view_plain(augmenter: Augmenter) -> None:
    made = augmenter._recolour(views(8))
    assert made.std((2, 3)).max() < 0.01
    assert made[:, 0, 0, 0].std() > 5  # the views have different brightness


def test_a_screenshot_shows_the_view_on_a_page(augmenter: Augmenter) -> None:
    shown = ((augmenter._screenshot(views(8)) - 100).abs() < 0.01).float().mean((1, 2, 3))
    assert shown.min() > 0.2
    assert shown.max() < 0.9


def test_degrading_adds_noise_around_the_same_values(augmenter: Augmenter) -> None:
    made = augmenter._degrade(views(8))
    assert torch.allclose(made.mean((1, 2, 3)), torch.tensor(100.0), atol=2)
    assert made.std() > 1
