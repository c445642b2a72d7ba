import io
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from services.embedder.training import image_edits
from services.embedder.training.image_edits import EDITS, edited_jpeg


def photo() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((120, 90), Image.Resampling.BICUBIC)


def opened(edit: str, image: Image.Image | None = None, seed: str = "a") -> Image.Image:
    data = edited_jpeg(image or photo(), edit, seed)
    assert data[:2] == b"\xff\xd8"
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_repeatable_and_changes_the_image(edit: str) -> None:
    assert edited_jpeg(photo(), edit, "a") == edited_jpeg(photo(), edit, "a")
    changed = np.asarray(opened(edit).resize((120, 90)), float)
    assert np.abs(changed - np.asarray(photo(), float)).mean() > 4


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit != "mirror"])
def test_another_seed_is_another_edit(edit: str) -> None:
    assert edited_jpeg(photo(), edit, "a") != edited_jpeg(photo(), edit, "b")


def test_a_crop_keeps_a_part_of_the_image() -> None:
    for seed in range(10):
        width, height = image_edits.crop(photo(), random.Random(seed)).size
        assert 0.6 < width / 120 < 0.8
        assert 0.6 < height / 90 < 0.8


def test_a_mirror_image_is_flipped_horizontally() -> None:
    flipped = np.asarray(image_edits.mirror(photo(), random.Random(1)))
    assert (flipped == np.asarray(ImageOps.mirror(photo()))).all()


def test_a_caption_leaves_the_middle_as_it_is() -> None:
    changed = np.asarray(image_edits.caption(photo(), random.Random(1)))
    different = (changed != np.asarray(photo())).any(2)
    assert different[:30].any()
    assert different[60:].any()
    assert not different[40:50].any()


def test_a_screenshot_is_a_smaller_image_on_a_page() -> None:
    assert opened("screenshot").size == (81, 67)


def test_transparent_parts_become_white() -> None:
    transparent = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert np.asarray(opened("mirror", transparent)).min() > 250
