# mypy: disable-error-code="func-returns-value"
# A drawing with several strokes is a tuple of the strokes' results, which are None.
"""Draws the pictures of the demo: ``python -m deploy.demo.draw FOLDER``.

Each picture shows a character in front of a backdrop, some with a caption. A character has a head,
ears, eyes, a mouth and an extra. Pictures are drawn at twice their size and reduced, which smooths
the edges.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFont

SIDE = 480
SCALE = 2
Point = tuple[float, float]
Pen = ImageDraw.ImageDraw


@dataclass(frozen=True)
class Character:
    """A picture. Colours are names or #rrggbb. The parts are keys of the tables below."""

    title: str
    tags: str
    sky: str
    ground: str
    skin: str
    head: str
    ears: str
    eyes: str
    mouth: str
    extra: str = "none"
    upper: str = ""
    lower: str = ""


CHARACTERS = (
    Character("Smug Swamp Blob", "frog smug", "#bfe3c0", "#3f7d4e", "#6fbf4b", "wide", "bumps", "half", "smirk"),
    Character("Cat With A Deadline", "cat office", "#f6d9b8", "#8a5a3c", "#e8954a", "round", "points", "wide", "gasp", "laptop", "due today", "began today"),
    Character("Worried Teapot", "object worried", "#dfe9f5", "#7a93b5", "#4f7fd0", "pot", "handle", "wide", "wave", "steam"),
    Character("Wizard Cone", "object wizard", "#2b2350", "#15122b", "#f07a2a", "cone", "none", "dots", "smile", "stars"),
    Character("Proud Toast", "food proud", "#fff1c9", "#d8a657", "#c98545", "square", "none", "closed", "grin", "butter", "", "golden at last"),
    Character("Judging Owl", "bird judging", "#26354a", "#131c29", "#8d6e4f", "tall", "tufts", "rings", "beak", "moon"),
    Character("Rocket Potato", "food space", "#0f1230", "#3a3f77", "#c9a46b", "wide", "none", "dots", "grin", "flames", "we have liftoff"),
    Character("Sleepy Moon", "sky sleepy", "#1c2452", "#0d1230", "#f3e6a8", "round", "none", "closed", "small", "stars"),
    Character("Suspicious Cactus", "plant suspicious", "#fbd7a1", "#c9824a", "#3f9a5a", "tall", "arms", "narrow", "flat", "none", "not sure if sunny", "or just hot"),
    Character("Ecstatic Dog", "dog happy", "#bfe6ff", "#74b357", "#d9a066", "round", "flaps", "wide", "tongue", "none", "you are home", "after four minutes"),
    Character("Tired Robot", "robot office", "#c7ccd4", "#6d7684", "#9fb0c3", "square", "bolts", "half", "grid", "antenna"),
    Character("Angry Cloud", "sky angry", "#7c8794", "#4a525c", "#dfe5ec", "cloud", "none", "angry", "frown", "rain"),
    Character("Fancy Pigeon", "bird fancy", "#e9dcf5", "#8f7fa8", "#8a94a6", "round", "none", "dots", "beak", "hat"),
    Character("Brave Snail", "animal brave", "#d9f2d0", "#6aa84f", "#c27ba0", "wide", "stalks", "dots", "smile", "shell", "", "slow is a speed"),
    Character("Nervous Cheese", "food nervous", "#ffe9a8", "#b8860b", "#f7c531", "square", "none", "wide", "wave", "holes"),
    Character("Cool Pineapple", "food cool", "#9fe8e1", "#f2c879", "#e3b23c", "tall", "leaves", "shades", "smirk"),
    Character("Crying Onion", "food sad", "#f4ecf7", "#b39bc8", "#d7b4e0", "round", "sprout", "closed", "frown", "tears", "it is not you", "it is me"),
    Character("Detective Mouse", "animal detective", "#b9b3a5", "#5f5a4e", "#a39a8c", "round", "discs", "narrow", "flat", "lens"),
    Character("Party Octopus", "animal party", "#ff9ecb", "#6a2c70", "#b83b5e", "tall", "none", "wide", "grin", "legs"),
    Character("Stoic Rock", "object calm", "#cfe0e8", "#7d9a8c", "#87898c", "wide", "none", "half", "flat", "moss", "", "everything passes"),
    Character("Sunny Side Egg", "food happy", "#333a44", "#20252c", "#fdfdf8", "cloud", "none", "dots", "smile", "yolk"),
    Character("Vampire Carrot", "food vampire", "#3b0d2c", "#1d0616", "#f2762e", "cone", "leaves", "angry", "fangs", "moon"),
    Character("Astronaut Bear", "animal space", "#0b1030", "#2a2f5a", "#8b5e3c", "round", "discs", "dots", "small", "helmet"),
    Character("Confused Chicken", "bird confused", "#fff4d6", "#c8a24a", "#ffffff", "round", "comb", "crossed", "beak", "question", "which came first", "asking for myself"),
    Character("Zen Panda", "animal calm", "#d8f0dc", "#5a8f62", "#f7f7f2", "round", "discs", "patches", "small", "leaf"),
    Character("Grumpy Traffic Light", "object grumpy", "#9fb4c7", "#4d5a66", "#2f3640", "tall", "none", "angry", "frown", "lamps"),
    Character("Pirate Strawberry", "food pirate", "#a8dcf0", "#1f6f8b", "#e23b4e", "cone", "leaves", "patch", "grin", "seeds"),
    Character("Winking Ghost", "spooky happy", "#4b3f72", "#2a2344", "#f2effa", "ghost", "none", "wink", "tongue"),
)  # fmt: skip


def picture(one: Character) -> Image.Image:
    """Draw a character, 480 x 480 pixels, RGB."""
    image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), one.sky)
    pen = ImageDraw.Draw(image)
    box(pen, (-10, 340, 490, 490), one.ground)
    if one.extra in BEHIND:
        BEHIND[one.extra](pen)
    EARS.get(one.ears, nothing)(pen, one.skin)
    HEADS[one.head](pen, one.skin)
    if one.extra in BEFORE:
        BEFORE[one.extra](pen)
    EYES[one.eyes](pen)
    MOUTHS[one.mouth](pen)
    caption(pen, one.upper, 36)
    caption(pen, one.lower, 444)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def visitor(one: Character) -> Image.Image:
    """Draw a character rotated, mirrored, cropped and in different light, like a photo."""
    turned = picture(one).rotate(9, Image.Resampling.BICUBIC, fillcolor="#20202a")
    cropped = turned.crop((50, 60, 420, 430)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(ImageEnhance.Color(cropped).enhance(0.6)).enhance(1.15)


def oval(pen: Pen, area: tuple[float, float, float, float], fill: str, line: int = 6) -> None:
    """Draw a filled oval. Its outline is ``line`` wide; 0 draws none."""
    pen.ellipse([value * SCALE for value in area], fill, "#1d1d24" if line else None, line * SCALE)


def box(pen: Pen, area: tuple[float, float, float, float], fill: str, radius: int = 0) -> None:
    """Draw a filled box. Round corners come with an outline."""
    scaled = [value * SCALE for value in area]
    pen.rounded_rectangle(scaled, radius * SCALE, fill, "#1d1d24" if radius else None, 6 * SCALE)


def shape(pen: Pen, points: list[Point], fill: str) -> None:
    """Draw a filled polygon with an outline."""
    scaled = [(x * SCALE, y * SCALE) for x, y in points]
    pen.polygon(scaled, fill, "#1d1d24", 6 * SCALE)


def line(pen: Pen, points: list[Point], fill: str = "#1d1d24", width: int = 7) -> None:
    """Draw a line through points."""
    scaled = [(x * SCALE, y * SCALE) for x, y in points]
    pen.line(scaled, fill, width * SCALE, joint="curve")


def arc(pen: Pen, area: tuple[float, float, float, float], start: int, end: int) -> None:
    """Draw a part of the outline of an oval. Angles are degrees clockwise from three o'clock."""
    pen.arc([value * SCALE for value in area], start, end, "#1d1d24", 8 * SCALE)


def caption(pen: Pen, text: str, y: int) -> None:
    """Write a line of text in white with a black edge."""
    font = ImageFont.load_default(38 * SCALE)
    middle = (SIDE * SCALE / 2, y * SCALE)
    pen.text(middle, text.upper(), "white", font, "mm", stroke_width=4 * SCALE, stroke_fill="black")


def nothing(pen: Pen, skin: str) -> None:
    """Draw nothing."""


def both(draw: Callable[[Pen, float], None]) -> Callable[[Pen], None]:
    """Return a function that draws something at the position of each eye."""

    def pair(pen: Pen) -> None:
        draw(pen, 190)
        draw(pen, 290)

    return pair


def eye(pen: Pen, x: float, white: int = 34, black: int = 13, shift: float = 0) -> None:
    """Draw an open eye."""
    oval(pen, (x - white, 205 - white, x + white, 205 + white), "white")
    oval(pen, (x - black + shift, 205 - black, x + black + shift, 205 + black), "#1d1d24", 0)


def lid(pen: Pen, x: float) -> None:
    """Draw a half-closed eye."""
    eye(pen, x)
    pen.pieslice([v * SCALE for v in (x - 34, 171, x + 34, 239)], 180, 360, "#4a4a55")


def brow(pen: Pen, x: float) -> None:
    """Draw an angry eye."""
    eye(pen, x, 30)
    inner = 1 if x < SIDE / 2 else -1
    line(pen, [(x - inner * 42, 158), (x + inner * 34, 184)], width=14)


HEADS: dict[str, Callable[[Pen, str], None]] = {
    "round": lambda pen, skin: oval(pen, (110, 110, 370, 370), skin),
    "wide": lambda pen, skin: oval(pen, (70, 140, 410, 380), skin),
    "tall": lambda pen, skin: oval(pen, (135, 80, 345, 400), skin),
    "square": lambda pen, skin: box(pen, (115, 115, 365, 375), skin, 40),
    "cone": lambda pen, skin: shape(pen, [(240, 60), (390, 390), (90, 390)], skin),
    "pot": lambda pen, skin: (oval(pen, (120, 130, 360, 380), skin), oval(pen, (215, 95, 265, 145), skin))[0],
    "cloud": lambda pen, skin: [
        oval(pen, area, skin, width)
        for width in (6, 0)
        for area in ((80, 180, 250, 350), (230, 180, 400, 350), (150, 110, 330, 300), (140, 220, 340, 370))
    ][0],
    "ghost": lambda pen, skin: shape(
        pen, [(120, 400), (120, 200), (160, 120), (240, 90), (320, 120), (360, 200), (360, 400), (320, 360), (280, 400), (240, 360), (200, 400), (160, 360)], skin
    ),
}  # fmt: skip
EARS: dict[str, Callable[[Pen, str], None]] = {
    "points": lambda pen, skin: (shape(pen, [(125, 190), (120, 70), (210, 125)], skin), shape(pen, [(355, 190), (360, 70), (270, 125)], skin))[0],
    "bumps": lambda pen, skin: (oval(pen, (120, 100, 220, 220), skin), oval(pen, (260, 100, 360, 220), skin))[0],
    "discs": lambda pen, skin: (oval(pen, (85, 75, 195, 185), "#3a3a40"), oval(pen, (285, 75, 395, 185), "#3a3a40"))[0],
    "flaps": lambda pen, skin: (oval(pen, (75, 130, 165, 330), "#8a5a33"), oval(pen, (315, 130, 405, 330), "#8a5a33"))[0],
    "tufts": lambda pen, skin: (shape(pen, [(160, 150), (130, 50), (220, 110)], skin), shape(pen, [(320, 150), (350, 50), (260, 110)], skin))[0],
    "stalks": lambda pen, skin: (line(pen, [(180, 180), (150, 70)], skin, 18), line(pen, [(300, 180), (330, 70)], skin, 18))[0],
    "arms": lambda pen, skin: (box(pen, (70, 190, 150, 230), skin, 18), box(pen, (330, 240, 410, 280), skin, 18))[0],
    "leaves": lambda pen, skin: [shape(pen, [(222 + x / 5, 130), (240 + x, 20), (258 + x / 5, 130)], "#3f9a4a") for x in (-110, -55, 0.1, 55, 110)][0],
    "sprout": lambda pen, skin: shape(pen, [(225, 130), (215, 30), (240, 60), (265, 30), (255, 130)], "#8fbf5a"),
    "comb": lambda pen, skin: [oval(pen, (170 + 45 * n, 70, 225 + 45 * n, 150), "#d8362a") for n in range(3)][0],
    "bolts": lambda pen, skin: (box(pen, (85, 210, 125, 270), "#6d7684", 8), box(pen, (355, 210, 395, 270), "#6d7684", 8))[0],
    "handle": lambda pen, skin: (oval(pen, (330, 190, 430, 310), "#dfe9f5", 16), shape(pen, [(130, 300), (40, 200), (70, 190), (150, 250)], skin))[0],
}  # fmt: skip
EYES: dict[str, Callable[[Pen], None]] = {
    "dots": both(lambda pen, x: oval(pen, (x - 14, 190, x + 14, 222), "#1d1d24", 0)),
    "wide": both(lambda pen, x: eye(pen, x, 40, 10)),
    "half": both(lid),
    "angry": both(brow),
    "closed": both(lambda pen, x: arc(pen, (x - 30, 185, x + 30, 225), 0, 180)),
    "narrow": both(lambda pen, x: box(pen, (x - 34, 196, x + 34, 216), "#1d1d24", 9)),
    "rings": both(lambda pen, x: (oval(pen, (x - 48, 157, x + 48, 253), "#f2c94c"), eye(pen, x, 34, 20))[0]),
    "patches": both(lambda pen, x: (oval(pen, (x - 42, 160, x + 42, 250), "#2f2f35", 0), arc(pen, (x - 22, 195, x + 22, 225), 0, 180))[0]),
    "crossed": lambda pen: (eye(pen, 190, 34, 12, 16), eye(pen, 290, 34, 12, -16))[0],
    "shades": lambda pen: (box(pen, (140, 180, 236, 236), "#15151a", 16), box(pen, (244, 180, 340, 236), "#15151a", 16))[0],
    "patch": lambda pen: (eye(pen, 290), oval(pen, (150, 165, 230, 245), "#15151a"), line(pen, [(110, 150), (350, 190)], width=9))[0],
    "wink": lambda pen: (eye(pen, 190, 38, 16), arc(pen, (260, 190, 320, 220), 180, 360))[0],
}  # fmt: skip
MOUTHS: dict[str, Callable[[Pen], None]] = {
    "smile": lambda pen: arc(pen, (180, 220, 300, 320), 20, 160),
    "small": lambda pen: arc(pen, (215, 265, 265, 300), 10, 170),
    "frown": lambda pen: arc(pen, (185, 280, 295, 370), 200, 340),
    "flat": lambda pen: line(pen, [(195, 300), (285, 300)], width=9),
    "smirk": lambda pen: line(pen, [(180, 305), (250, 310), (310, 275)], width=9),
    "wave": lambda pen: line(pen, [(175, 300), (200, 288), (225, 305), (250, 288), (275, 305), (300, 290)]),
    "gasp": lambda pen: oval(pen, (210, 265, 270, 345), "#6b1a2a"),
    "grin": lambda pen: (box(pen, (175, 270, 305, 325), "white", 22), line(pen, [(175, 298), (305, 298)], width=4))[0],
    "tongue": lambda pen: (oval(pen, (190, 260, 290, 330), "#6b1a2a"), oval(pen, (215, 295, 265, 365), "#f28ca0"))[0],
    "beak": lambda pen: shape(pen, [(205, 250), (275, 250), (240, 315)], "#f2a33a"),
    "grid": lambda pen: [box(pen, (180 + 24 * n, 285, 204 + 24 * n, 320), "#dfe5ec", 3) for n in range(5)][0],
    "fangs": lambda pen: (box(pen, (190, 280, 290, 305), "#6b1a2a", 10), shape(pen, [(205, 300), (225, 300), (215, 335)], "white"), shape(pen, [(255, 300), (275, 300), (265, 335)], "white"))[0],
}  # fmt: skip
BEHIND: dict[str, Callable[[Pen], None]] = {
    "stars": lambda pen: [oval(pen, (x, y, x + 10, y + 10), "#ffe98a", 0) for x, y in ((40, 60), (90, 180), (420, 90), (380, 220), (60, 290), (300, 40), (440, 300))][0],
    "moon": lambda pen: oval(pen, (350, 40, 440, 130), "#f3e6a8", 0),
    "flames": lambda pen: (shape(pen, [(150, 340), (330, 340), (240, 470)], "#f2762e"), shape(pen, [(190, 340), (290, 340), (240, 420)], "#ffd94a"))[0],
    "legs": lambda pen: [oval(pen, (60 + 60 * n, 330, 130 + 60 * n, 450), "#b83b5e") for n in range(5)][0],
    "shell": lambda pen: (oval(pen, (250, 60, 440, 260), "#a64d79"), oval(pen, (300, 110, 390, 200), "#d5a6bd"))[0],
    "steam": lambda pen: [line(pen, [(60 + x, 150), (40 + x, 110), (70 + x, 70), (50 + x, 30)], "white", 9) for x in (0, 40)][0],
    "rain": lambda pen: [line(pen, [(x, 370), (x - 15, 430)], "#5b8fd6", 8) for x in range(110, 400, 45)][0],
    "helmet": lambda pen: oval(pen, (70, 60, 410, 410), "#cfe3f2"),
    "antenna": lambda pen: (line(pen, [(240, 120), (240, 50)]), oval(pen, (222, 25, 258, 61), "#e23b4e"))[0],
}  # fmt: skip
BEFORE: dict[str, Callable[[Pen], None]] = {
    "laptop": lambda pen: (box(pen, (150, 345, 330, 420), "#8fa3b8", 8), box(pen, (120, 415, 360, 430), "#56677a", 6))[0],
    "butter": lambda pen: box(pen, (205, 125, 275, 170), "#ffe066", 8),
    "hat": lambda pen: (box(pen, (175, 30, 305, 120), "#1d1d24", 6), box(pen, (140, 110, 340, 130), "#1d1d24", 6))[0],
    "holes": lambda pen: [oval(pen, area, "#c99a1a") for area in ((135, 130, 175, 170), (310, 140, 345, 175), (140, 330, 170, 360), (315, 320, 350, 355))][0],
    "tears": lambda pen: [oval(pen, (x, 235, x + 20, 275), "#5b8fd6") for x in (160, 300)][0],
    "lens": lambda pen: (oval(pen, (300, 250, 400, 350), "#cfe3f2", 10), line(pen, [(385, 340), (440, 420)], width=18))[0],
    "moss": lambda pen: [oval(pen, (x, 140, x + 70, 175), "#5f8f4a", 0) for x in (150, 200, 260)][0],
    "yolk": lambda pen: oval(pen, (160, 150, 320, 320), "#f7c531"),
    "question": lambda pen: caption(pen, "?          ?", 130),
    "leaf": lambda pen: shape(pen, [(290, 300), (390, 260), (370, 320)], "#4f9a4a"),
    "lamps": lambda pen: [oval(pen, (215, y, 265, y + 50), fill) for y, fill in ((95, "#e23b4e"), (340, "#3fbf5a"))][0],
    "seeds": lambda pen: [oval(pen, (x, y, x + 12, y + 18), "#ffe98a", 0) for x, y in ((150, 340), (210, 350), (270, 345), (320, 340), (235, 120), (210, 155), (270, 160))][0],
}  # fmt: skip


def main() -> None:
    """Draw all pictures into the folder named by the first argument, and the photo beside it."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for one in CHARACTERS:
        reduced = picture(one).quantize(64, dither=Image.Dither.NONE)
        reduced.save(folder / f"{one.title}.png", optimize=True)
    tags = {one.title: one.tags.split() for one in CHARACTERS}
    (folder / "tags.json").write_text(json.dumps(tags, indent=1) + "\n")
    visitor(CHARACTERS[1]).save(folder.parent / "visitor.jpg", quality=80)


if __name__ == "__main__":
    main()
