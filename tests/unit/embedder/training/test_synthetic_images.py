from random import Random

import numpy as np

from services.embedder.training import synthetic_images


def photos() -> synthetic_images.Pictures:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def test_captions_are_transparent_around_their_letters() -> None:
    overlays = synthetic_images.captions(8, 64, Random(1))
    assert overlays.shape == (8, 64, 64, 4)
    opaque = overlays[..., 3] > 0
    assert opaque.any()
    assert not opaque.all(axis=(1, 2)).any()


def test_pages_are_opaque_pictures() -> None:
    assert synthetic_images.pages(4, 64, Random(1)).shape == (4, 64, 64, 3)


def test_cutouts_keep_part_of_a_photograph_and_show_their_ground() -> None:
    for picture in synthetic_images.cutouts(photos(), 8, Random(1)):
        colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        assert len(colours) > 100  # the photographs are noise: hardly a colour twice
        assert counts.max() > 100  # the plain ground


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = (
        synthetic_images.cutouts(photos(), 4, Random(seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
