"""Images drawn by code for training: captions, pages and cut-outs.

Shared images have lettering, flat colours and figures on an empty background. A network cannot
learn these from photographs.
"""

import string
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Images = NDArray[np.uint8]


def captions(count: int, side: int, rng: Random) -> Images:
    """Draw outlined lines of text, mostly at the top or the bottom.

    Returns:
        uint8 [count, side, side, 4], transparent except for the text.
    """
    return np.stack([np.asarray(_caption(side, rng)) for _ in range(count)])


def pages(count: int, side: int, rng: Random) -> Images:
    """Draw what surrounds an image on a screen: a background, bars, lines of text.

    Returns:
        uint8 [count, side, side, 3].
    """
    return np.stack([np.asarray(_page(side, rng)) for _ in range(count)])


def cutouts(photos: Images, count: int, rng: Random) -> Images:
    """Cut figures out of photographs, resize them, and put them on a plain background.

    Args:
        photos: uint8 [n, side, side, 3].
        count: how many to draw.
        rng: the random number generator.

    Returns:
        uint8 [count, side, side, 3].
    """
    return np.stack([np.asarray(_cutout(photos, rng)) for _ in range(count)])


def _caption(side: int, rng: Random) -> Image.Image:
    overlay = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(overlay)
    ink, outline = rng.choice(
        (("white", "black"), ("white", "black"), ("black", "white"), (_random_colour(rng), "black"))
    )
    size = round(side * rng.uniform(0.07, 0.17))
    font = ImageFont.load_default(size)
    for top in rng.choice(((0.01, 0.99), (0.01, 0.99), (0.01,), (0.99,), (rng.random(),))):
        line = _random_words(rng, rng.randint(1, 6))
        # Lines in the upper half grow down from their position, and lines in the lower half grow
        # up.
        anchor = "ma" if top < 0.5 else "md"  # noqa: PLR2004 - half
        stroke = rng.randint(1, 3)
        pen.text(
            (side / 2, side * top),
            line,
            ink,
            font,
            anchor,
            stroke_width=stroke,
            stroke_fill=outline,
        )
    return overlay


def _page(side: int, rng: Random) -> Image.Image:
    background = rng.choice(
        ("white", "black", "#18191c", "#f0f2f5", _random_colour(rng), _random_colour(rng))
    )
    page = Image.new("RGB", (side, side), background)
    pen = ImageDraw.Draw(page)
    for _ in range(rng.choice((0, 0, 1, 3))):
        top, height = rng.randrange(side), rng.randint(2, side // 5)
        pen.rectangle((0, top, side, top + height), _random_colour(rng))
    font = ImageFont.load_default(rng.randint(6, 16))
    for _ in range(rng.choice((0, 0, 3, 10))):
        at = (rng.randrange(side // 2), rng.randrange(side))
        pen.text(at, _random_words(rng, 6).lower(), _random_colour(rng), font)
    return page


def _cutout(photos: Images, rng: Random) -> Image.Image:
    side = photos.shape[1]
    background = rng.choice(("white", "white", "white", "black", _random_colour(rng)))
    image = Image.new("RGB", (side, side), background)
    for _ in range(rng.choice((1, 1, 1, 2))):
        part = round(side * rng.uniform(0.5, 0.9))
        left, top = rng.randint(0, side - part), rng.randint(0, side - part)
        figure = Image.fromarray(photos[rng.randrange(len(photos))]).crop(
            (left, top, left + part, top + part)
        )
        size = round(side * rng.uniform(0.6, 1.1))
        figure = figure.resize((size, size), Image.Resampling.BICUBIC)
        at = (
            rng.randint(-side // 10, max(0, side - size)),
            side - round(size * rng.uniform(0.8, 1)),
        )
        image.paste(figure, at, _figure_mask(size, rng))
    return image


def _figure_mask(side: int, rng: Random) -> Image.Image:
    """Draw the mask of a figure: overlapping ellipses and polygons with rounded edges."""
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for _ in range(rng.randint(2, 5)):
        width, height = (round(side * rng.uniform(0.35, 0.8)) for _ in range(2))
        left, top = rng.randint(0, side - width), rng.randint(0, side - height)
        box = (left, top, left + width, top + height)
        if rng.random() < 0.6:  # noqa: PLR2004 - mostly round
            pen.ellipse(box, 255)
        else:
            corners = [
                (rng.randint(left, left + width), rng.randint(top, top + height)) for _ in range(5)
            ]
            pen.polygon(corners, 255)
    blurred = mask.filter(ImageFilter.GaussianBlur(side / 40))
    return blurred.point(lambda value: 255 if value > 127 else 0)  # noqa: PLR2004 - half


def _random_words(rng: Random, count: int) -> str:
    """Return words of random letters."""
    lengths = (rng.randint(1, 8) for _ in range(count))
    return " ".join("".join(rng.choices(string.ascii_uppercase, k=length)) for length in lengths)


def _random_colour(rng: Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)
