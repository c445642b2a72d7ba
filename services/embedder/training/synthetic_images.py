"""Pictures drawn by code for training: captions, pages, cut-out figures.

Photographs alone teach neither lettering nor flat colours nor figures on an empty ground, and
pictures that travel have all three.
"""

import string
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Pictures = NDArray[np.uint8]


def captions(count: int, side: int, chance: Random) -> Pictures:
    """Draw outlined lines of letters near the top, the bottom or anywhere.

    Returns:
        uint8 [count, side, side, 4], transparent where nothing is written.
    """
    return np.stack([np.asarray(_caption(side, chance)) for _ in range(count)])


def pages(count: int, side: int, chance: Random) -> Pictures:
    """Draw what surrounds a picture on a screen: a ground, bars, lines of text.

    Returns:
        uint8 [count, side, side, 3].
    """
    return np.stack([np.asarray(_page(side, chance)) for _ in range(count)])


def cutouts(photos: Pictures, count: int, chance: Random) -> Pictures:
    """Cut figures out of photographs and set them, enlarged, on a plain ground.

    Args:
        photos: uint8 [n, side, side, 3].
        count: how many to make.
        chance: where every choice comes from.

    Returns:
        uint8 [count, side, side, 3].
    """
    return np.stack([np.asarray(_cutout(photos, chance)) for _ in range(count)])


def _caption(side: int, chance: Random) -> Image.Image:
    overlay = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(overlay)
    ink, outline = chance.choice(
        (("white", "black"), ("white", "black"), ("black", "white"), (_colour(chance), "black"))
    )
    size = round(side * chance.uniform(0.07, 0.17))
    font = ImageFont.load_default(size)
    for top in chance.choice(((0.01, 0.99), (0.01, 0.99), (0.01,), (0.99,), (chance.random(),))):
        line = _letters(chance, chance.randint(1, 6))
        anchor = "ma" if top < 0.5 else "md"  # noqa: PLR2004 - the upper half hangs, the lower stands
        stroke = chance.randint(1, 3)
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


def _page(side: int, chance: Random) -> Image.Image:
    ground = chance.choice(
        ("white", "black", "#18191c", "#f0f2f5", _colour(chance), _colour(chance))
    )
    page = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(page)
    for _ in range(chance.choice((0, 0, 1, 3))):
        top, height = chance.randrange(side), chance.randint(2, side // 5)
        pen.rectangle((0, top, side, top + height), _colour(chance))
    font = ImageFont.load_default(chance.randint(6, 16))
    for _ in range(chance.choice((0, 0, 3, 10))):
        at = (chance.randrange(side // 2), chance.randrange(side))
        pen.text(at, _letters(chance, 6).lower(), _colour(chance), font)
    return page


def _cutout(photos: Pictures, chance: Random) -> Image.Image:
    side = photos.shape[1]
    ground = chance.choice(("white", "white", "white", "black", _colour(chance)))
    picture = Image.new("RGB", (side, side), ground)
    for _ in range(chance.choice((1, 1, 1, 2))):
        part = round(side * chance.uniform(0.5, 0.9))
        left, top = chance.randint(0, side - part), chance.randint(0, side - part)
        figure = Image.fromarray(photos[chance.randrange(len(photos))]).crop(
            (left, top, left + part, top + part)
        )
        size = round(side * chance.uniform(0.6, 1.1))
        figure = figure.resize((size, size), Image.Resampling.BICUBIC)
        at = (
            chance.randint(-side // 10, max(0, side - size)),
            side - round(size * chance.uniform(0.8, 1)),
        )
        picture.paste(figure, at, _blob(size, chance))
    return picture


def _blob(side: int, chance: Random) -> Image.Image:
    """Draw a figure's outline: overlapping ellipses and polygons, rounded."""
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for _ in range(chance.randint(2, 5)):
        wide, high = (round(side * chance.uniform(0.35, 0.8)) for _ in range(2))
        left, top = chance.randint(0, side - wide), chance.randint(0, side - high)
        box = (left, top, left + wide, top + high)
        if chance.random() < 0.6:  # noqa: PLR2004 - mostly round
            pen.ellipse(box, 255)
        else:
            corners = [
                (chance.randint(left, left + wide), chance.randint(top, top + high))
                for _ in range(5)
            ]
            pen.polygon(corners, 255)
    soft = mask.filter(ImageFilter.GaussianBlur(side / 40))
    return soft.point(lambda value: 255 if value > 127 else 0)  # noqa: PLR2004 - half way


def _letters(chance: Random, words: int) -> str:
    """Invent words: their shapes matter, their sense does not."""
    lengths = (chance.randint(1, 8) for _ in range(words))
    return " ".join("".join(chance.choices(string.ascii_uppercase, k=length)) for length in lengths)


def _colour(chance: Random) -> tuple[int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)
