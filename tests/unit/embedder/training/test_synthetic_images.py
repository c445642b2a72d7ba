from random import Random

import numpy as np

from services.embedder.training import synthetic_images


def photos() -> synthetic_images.Images:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def test_captions_are_transparent_around_their_letters() -> None:
    overlays = synthetic_images.captions(8, 64, Random(1))
    assert overlays.shape == (8, 64, 64, 4)
    opaque = overlays[..., 3] > 0
    assert opaque.any()
    assert not opaque.all(axis=(1, 2)).any()


def test_pages_are_opaque_images() -> None:
    assert synthetic_images.pages(4, 64, Random(1)).shape == (4, 64, 64, 3)


def test_cutouts_have_a_part_of_a_photograph_on_a_plain_background() -> None:
    for image in synthetic_images.cutouts(photos(), 8, Random(1)):
        colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
        assert len(colours) > 100  # the photographs are noise: hardly any colour occurs twice
        assert counts.max() > 100  # the plain background


def test_equal_seeds_draw_equal_images() -> None:
    first, again, other = (
        synthetic_images.cutouts(photos(), 4, Random(seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
