"""Six typical edits of shared images, for the evaluation of trained networks.

Training never sees these edits, because it uses other augmentations (augmentations.py).
"""

import io
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from services.embedder.models.network import flatten_onto_white

_WORDS = """when you finally nobody me at three in the morning deploy friday it works on my
machine the cat said no one does simply all your base brace yourselves meetings could have been
emails""".split()


def crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """Crop to 62 to 78 % of each side, at a random position."""
    width, height = (round(side * rng.uniform(0.62, 0.78)) for side in image.size)
    left = rng.randint(0, image.width - width)
    top = rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def mirror(image: Image.Image, _: random.Random) -> Image.Image:
    """Flip horizontally."""
    return ImageOps.mirror(image)


def rotate(image: Image.Image, rng: random.Random) -> Image.Image:
    """Rotate by 8 to 16 degrees in either direction; the corners become white, black or grey."""
    angle = rng.uniform(8, 16) * rng.choice((-1, 1))
    fill = rng.choice(("white", "black", "grey"))
    expand = rng.random() < 0.5  # noqa: PLR2004 - half
    return image.rotate(angle, Image.Resampling.BICUBIC, expand, fillcolor=fill)


def caption(image: Image.Image, rng: random.Random) -> Image.Image:
    """Draw a line of capitals at the top and one at the bottom, white with a black outline."""
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    size = max(1, round(image.height * rng.uniform(0.09, 0.14)))
    font = ImageFont.load_default(size)
    for height, anchor in ((0.02, "ma"), (0.98, "md")):
        text = " ".join(rng.choices(_WORDS, k=rng.randint(2, 5))).upper()
        at = (image.width / 2, image.height * height)
        pen.text(
            at, text, "white", font, anchor, stroke_width=max(1, size // 12), stroke_fill="black"
        )
    return drawn


def recolour(image: Image.Image, rng: random.Random) -> Image.Image:
    """Scale saturation by .2 to 1.8, brightness and contrast by .6 to 1.4."""
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.2, 1.8))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.4))
    return ImageEnhance.Contrast(image).enhance(rng.uniform(0.6, 1.4))


def screenshot(image: Image.Image, rng: random.Random) -> Image.Image:
    """Paste onto a page 1.35 times as wide and 1.5 times as high, blur, and halve the size."""
    width, height = round(image.width * 1.35), round(image.height * 1.5)
    page = Image.new("RGB", (width, height), tuple(rng.choices(range(256), k=3)))
    left = rng.randint(0, width - image.width)
    top = rng.randint(0, height - image.height)
    page.paste(image, (left, top))
    blurred = page.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.4)))
    half = (max(1, width // 2), max(1, height // 2))
    return blurred.resize(half, Image.Resampling.BICUBIC)


EDITS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    edit.__name__: edit for edit in (crop, mirror, rotate, caption, recolour, screenshot)
}


def edited_jpeg(image: Image.Image, edit: str, seed: str) -> bytes:
    """Apply one of ``EDITS``, and save the result as JPEG with a quality of 45 to 80.

    Args:
        image: an image of any mode; transparent parts become white.
        edit: a key of ``EDITS``.
        seed: equal seeds give equal bytes.
    """
    rng = random.Random(f"{seed}/{edit}")  # noqa: S311 - not for secrets
    opaque = flatten_onto_white(image)
    buffer = io.BytesIO()
    EDITS[edit](opaque, rng).save(buffer, "JPEG", quality=rng.randint(45, 80))
    return buffer.getvalue()
