import numpy as np
import pytest
from PIL import Image

from services.embedder.decoding import images
from services.errors import InvalidArgument
from tests.media_files import INVALID_IMAGES, on_white, saved, scene, valid_images

TOO_LARGE = {"huge PNG", "wide PNG", "decompression bomb", "JPEG of many scans", "too many bytes"}
DAMAGED_AND_TOO_LARGE = {"huge GIF", "huge BMP"}  # which error comes first depends on Pillow


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of the pixels' channels, from 0 to 255."""
    pixels = [np.asarray(on_white(image), np.float32) for image in (one, other)]
    return float(np.abs(pixels[0] - pixels[1]).mean())


@pytest.mark.parametrize("name", valid_images())
def test_the_first_frame_is_decoded_upright(name: str) -> None:
    data, expected = valid_images()[name]
    found = images.decode(data, "image")
    assert found.mode in ("RGB", "RGBA")
    assert found.size == expected.size
    assert difference(found, expected) < 8
    # With another orientation, the difference is far larger.
    assert difference(found, expected.transpose(Image.Transpose.ROTATE_180)) > 40


@pytest.mark.parametrize("name", INVALID_IMAGES)
def test_other_files_are_refused_by_their_field(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        images.decode(INVALID_IMAGES[name](), "inputs[3].image")
    assert refused.value.field == "inputs[3].image"
    if name not in DAMAGED_AND_TOO_LARGE:
        reason = "PICTURE_TOO_LARGE" if name in TOO_LARGE else "NOT_A_PICTURE"
        assert refused.value.reason == ("EMPTY_PICTURE" if name == "empty" else reason)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_truncated_files_are_refused_or_shown_whole(kind: str) -> None:
    whole, refused = saved(scene(), kind), 0
    for part in range(1, 12):
        try:
            found = images.decode(whole[: len(whole) * part // 12], "image")
        except InvalidArgument:
            refused += 1
        else:
            assert difference(found, scene()) < 8
    assert refused >= 8


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size() -> None:
    found = images.decode(saved(Image.new("RGB", (6000, 6000)), "JPEG"), "image")
    assert 1024 <= found.width < 2048
