"""Six ways in which a picture comes back changed: what the twin must survive.

For evaluation alone: what is learned from are other views (augmentations.py).
"""

import io
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

_WORDS = """when you finally nobody me at three in the morning deploy friday it works on my
machine the cat said no one does simply all your base brace yourselves meetings could have been
emails""".split()


def crop(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Keep 62 to 78 % of each side, anywhere."""
    width, height = (round(side * chance.uniform(0.62, 0.78)) for side in picture.size)
    left = chance.randint(0, picture.width - width)
    top = chance.randint(0, picture.height - height)
    return picture.crop((left, top, left + width, top + height))


def mirror(picture: Image.Image, _: random.Random) -> Image.Image:
    """Swap left and right."""
    return ImageOps.mirror(picture)


def rotate(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Turn by 8 to 16 degrees to either side; the corners become white, black or grey."""
    angle = chance.uniform(8, 16) * chance.choice((-1, 1))
    corner = chance.choice(("white", "black", "grey"))
    whole = chance.random() < 0.5  # noqa: PLR2004 - as often as not
    return picture.rotate(angle, Image.Resampling.BICUBIC, whole, fillcolor=corner)


def caption(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Draw one line of capitals at the top and one at the bottom, white with a black outline."""
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    size = max(1, round(picture.height * chance.uniform(0.09, 0.14)))
    font = ImageFont.load_default(size)
    for height, anchor in ((0.02, "ma"), (0.98, "md")):
        text = " ".join(chance.choices(_WORDS, k=chance.randint(2, 5))).upper()
        at = (picture.width / 2, picture.height * height)
        pen.text(
            at, text, "white", font, anchor, stroke_width=max(1, size // 12), stroke_fill="black"
        )
    return drawn


def recolour(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Change colour by .2 to 1.8, brightness and contrast by .6 to 1.4."""
    picture = ImageEnhance.Color(picture).enhance(chance.uniform(0.2, 1.8))
    picture = ImageEnhance.Brightness(picture).enhance(chance.uniform(0.6, 1.4))
    return ImageEnhance.Contrast(picture).enhance(chance.uniform(0.6, 1.4))


def screenshot(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Paste on a page 1.35 times as wide and 1.5 times as high, blur, halve."""
    width, height = round(picture.width * 1.35), round(picture.height * 1.5)
    page = Image.new("RGB", (width, height), tuple(chance.choices(range(256), k=3)))
    left = chance.randint(0, width - picture.width)
    top = chance.randint(0, height - picture.height)
    page.paste(picture, (left, top))
    blurred = page.filter(ImageFilter.GaussianBlur(chance.uniform(0.6, 1.4)))
    half = (max(1, width // 2), max(1, height // 2))
    return blurred.resize(half, Image.Resampling.BICUBIC)


EDITS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    edit.__name__: edit for edit in (crop, mirror, rotate, caption, recolour, screenshot)
}


def edited(picture: Image.Image, edit: str, seed: str) -> bytes:
    """Apply one of ``EDITS``; return it as JPEG of quality 45 to 80, as it would be sent.

    Args:
        picture: any mode; transparent parts become white.
        edit: a key of ``EDITS``.
        seed: the same seed gives the same bytes.
    """
    chance = random.Random(f"{seed}/{edit}")  # noqa: S311 - no secrets here
    layer = picture.convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    buffer = io.BytesIO()
    EDITS[edit](opaque, chance).save(buffer, "JPEG", quality=chance.randint(45, 80))
    return buffer.getvalue()
