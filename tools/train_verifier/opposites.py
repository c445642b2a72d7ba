"""Makes questions that look alike and ask something else, and others that ask the same.

For training and measuring the verifier: pairs of real questions hold too few of both.
"""

import random
import re
from collections.abc import Callable, Iterable

from services.gateway.cache.verifier.features import OPPOSITES

Maker = Callable[[str, random.Random], str]

_AUXILIARY = re.compile(
    r"\b(is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b (?!not\b)(\w+)", re.I
)
_NAME = re.compile(r"(?<=\s)[A-Z][a-z]{2,}\b")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?")
_OTHER_NAMES = """Germany Canada Tokyo Microsoft Samsung Python Brazil Sony Peter Maria Spanish
    Tesla Paris Amazon Mumbai Google London Java Chinese Texas Netflix Oracle Kenya Sarah
    Delhi""".split()
_SWAPS = {
    word: tuple(other for pair in OPPOSITES if word in pair for other in pair if other != word)
    for pair in OPPOSITES
    for word in pair
}
_PREFIXES = ("Please tell me: ", "Hi, ", "Quick question: ", "I would like to know: ")
_SAME = (
    ("How do I ", "How can I "), ("How can I ", "How do I "), ("What is ", "What's "),
    ("How do you ", "How can one "), ("What are the best ", "Which are the best "),
    ("Why do ", "Why is it that "), ("do not ", "don't "), ("cannot ", "can't "),
)  # fmt: skip


def negate(text: str, dice: random.Random) -> str:
    """Put a "not" behind the first auxiliary verb and the word after it."""
    return _AUXILIARY.sub(lambda found: f"{found[1]} {found[2]} not", text, count=1)


def renumber(text: str, dice: random.Random) -> str:
    """Change one number."""
    places = list(_DIGITS.finditer(text))
    if not places:
        return text
    place = dice.choice(places)
    changed = max(0, int(place[0][:9]) + dice.choice([-2, -1, 1, 2, 5, 10, 100]))
    return text[: place.start()] + str(changed) + text[place.end() :]


def rename(text: str, dice: random.Random) -> str:
    """Put another name in the place of one."""
    places = list(_NAME.finditer(text))
    if not places:
        return text
    place = dice.choice(places)
    return text[: place.start()] + dice.choice(_OTHER_NAMES) + text[place.end() :]


def turn(text: str, dice: random.Random) -> str:
    """Put its opposite in the place of a word."""
    places = [place for place in _WORD.finditer(text) if place[0] in _SWAPS]
    if not places:
        return text
    place = dice.choice(places)
    return text[: place.start()] + dice.choice(_SWAPS[place[0]]) + text[place.end() :]


def rephrase(text: str, dice: random.Random) -> str:
    """Say the same a little differently."""
    for old, new in _SAME:
        if old in text:
            return text.replace(old, new, 1)
    if dice.random() < 0.5:  # noqa: PLR2004 - one of two
        return dice.choice(_PREFIXES) + text[0].lower() + text[1:]
    return text.lower().rstrip("?. ")


OPPOSING: dict[str, Maker] = {
    "negation": negate,
    "number": renumber,
    "name": rename,
    "opposite": turn,
}


def make(texts: Iterable[str], maker: Maker, limit: int, seed: int = 1) -> list[tuple[str, str]]:
    """Return at most ``limit`` pairs of a text and what ``maker`` makes of it, if it changes it."""
    dice = random.Random(seed)  # noqa: S311 - nobody guesses at it
    pairs: list[tuple[str, str]] = []
    for text in texts:
        if len(pairs) == limit:
            break
        changed = maker(text, dice)
        if changed.lower() != text.lower() or maker is rephrase:
            pairs.append((text, changed))
    return pairs
