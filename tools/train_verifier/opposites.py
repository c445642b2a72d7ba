"""Generates pairs of questions: some look alike and differ in meaning, some ask the same.

They train and measure the verifier. Pairs of real questions contain too few of both kinds.
"""

import random
import re
from collections.abc import Callable, Iterable

from services.gateway.cache.verifier.vocabulary import ANTONYMS

Transform = Callable[[str, random.Random], str]

_AUXILIARY = re.compile(
    r"\b(is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b (?!not\b)(\w+)", re.I
)
_NAME = re.compile(r"(?<=\s)[A-Z][a-z]{2,}\b")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?")
_OTHER_NAMES = """Germany Canada Tokyo Microsoft Samsung Python Brazil Sony Peter Maria Spanish
    Tesla Paris Amazon Mumbai Google London Java Chinese Texas Netflix Oracle Kenya Sarah
    Delhi""".split()
_ANTONYMS_OF = {
    word: tuple(other for pair in ANTONYMS if word in pair for other in pair if other != word)
    for pair in ANTONYMS
    for word in pair
}
_PREFIXES = ("Please tell me: ", "Hi, ", "Quick question: ", "I would like to know: ")
_REPHRASINGS = (
    ("How do I ", "How can I "), ("How can I ", "How do I "), ("What is ", "What's "),
    ("How do you ", "How can one "), ("What are the best ", "Which are the best "),
    ("Why do ", "Why is it that "), ("do not ", "don't "), ("cannot ", "can't "),
)  # fmt: skip


def negate(text: str, rng: random.Random) -> str:
    """Insert "not" after the first auxiliary verb and its subject."""
    return _AUXILIARY.sub(lambda found: f"{found[1]} {found[2]} not", text, count=1)


def renumber(text: str, rng: random.Random) -> str:
    """Change one number."""
    matches = list(_DIGITS.finditer(text))
    if not matches:
        return text
    match = rng.choice(matches)
    changed = max(0, int(match[0][:9]) + rng.choice([-2, -1, 1, 2, 5, 10, 100]))
    return text[: match.start()] + str(changed) + text[match.end() :]


def rename(text: str, rng: random.Random) -> str:
    """Replace one name with another."""
    matches = list(_NAME.finditer(text))
    if not matches:
        return text
    match = rng.choice(matches)
    return text[: match.start()] + rng.choice(_OTHER_NAMES) + text[match.end() :]


def replace_antonym(text: str, rng: random.Random) -> str:
    """Replace one word with its antonym."""
    matches = [match for match in _WORD.finditer(text) if match[0] in _ANTONYMS_OF]
    if not matches:
        return text
    match = rng.choice(matches)
    return text[: match.start()] + rng.choice(_ANTONYMS_OF[match[0]]) + text[match.end() :]


def rephrase(text: str, rng: random.Random) -> str:
    """Rephrase a question slightly."""
    for old, new in _REPHRASINGS:
        if old in text:
            return text.replace(old, new, 1)
    if rng.random() < 0.5:  # noqa: PLR2004 - one of two
        return rng.choice(_PREFIXES) + text[0].lower() + text[1:]
    return text.lower().rstrip("?. ")


CONTRADICTIONS: dict[str, Transform] = {
    "negation": negate,
    "number": renumber,
    "name": rename,
    "opposite": replace_antonym,
}


def generate(
    texts: Iterable[str], transform: Transform, limit: int, seed: int = 1
) -> list[tuple[str, str]]:
    """Return at most ``limit`` pairs of a text and its changed version, without unchanged texts."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    pairs: list[tuple[str, str]] = []
    for text in texts:
        if len(pairs) == limit:
            break
        changed = transform(text, rng)
        if changed.lower() != text.lower() or transform is rephrase:
            pairs.append((text, changed))
    return pairs
