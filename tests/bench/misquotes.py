"""Makes sentences of answers from passages: faithful ones, lightly reworded ones and misquotes."""

import random
import re
from collections.abc import Callable, Sequence

from services.gateway.rag.grounding.sentence import Sentence

_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w-])")
_THOUSANDS = re.compile(r"(?<![\w.,-])\d{1,3},\d{3}(?![\w,.-])")
_FOUR_DIGITS = re.compile(r"(?<![\w.,-])(?!19|20)\d{4,6}(?![\w,.%-])")
_NUMERALS = dict(enumerate("two three four five six seven eight nine ten".split(), start=2))
_VERB = re.compile(r"\b(is|are|was|were|has|have|had|can|could|may|will|does|did|do)\b(?! not)")
_NOT = re.compile(r"\b(is|are|was|were|has|have|had|can|could|may|will|does|did|do) not\b")

Change = Callable[[str, Sequence[str], random.Random], str]


def percent(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Write "5 percent" for "5 %" and the other way round."""
    if "%" in text:
        return re.sub(r"\s?%(?![-–\w])", " percent", text)
    return re.sub(r"(?<=\d) per\s?cent\b", " %", text)


def thousands(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Remove separators of thousands, or insert them."""
    if _THOUSANDS.search(text):
        return _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    return _FOUR_DIGITS.sub(lambda found: f"{int(found[0]):,}", text)


def numerals(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Write "2" for "two" and the other way round."""
    for value, word in _NUMERALS.items():
        if re.search(rf"(?<!-)\b{word}\b(?!-)", text):
            return re.sub(rf"(?<!-)\b{word}\b(?!-)", str(value), text, count=1)
        if re.search(rf"(?<![\w.,-]){value}(?![\w.,%-])", text):
            return re.sub(rf"(?<![\w.,-]){value}(?![\w.,%-])", word, text, count=1)
    return text


def case(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Write the sentence in lower case."""
    return text.lower()


def first_clause(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Quote only the longer side of the comma or semicolon in the middle."""
    parts = re.split(r"[,;] ", text, maxsplit=1)
    longest = max(parts, key=len).rstrip(".")
    return (
        longest[0].upper() + longest[1:] + "." if len(parts) > 1 and longest[:1].isalpha() else text
    )


def framed(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Put the words of a reporter in front."""
    return f"According to the passage, {text[0].lower()}{text[1:]}"


REWORDED: dict[str, Change] = {
    "percent": percent,
    "thousands": thousands,
    "numerals": numerals,
    "case": case,
    "first clause": first_clause,
    "framed": framed,
}


def wrong_number(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Replace a number by another one with as many digits."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return text
    chosen = rng.choice(found)
    digits = chosen[0]
    while digits == chosen[0]:
        digits = re.sub(r"\d", lambda _: str(rng.randint(1, 9)), chosen[0])
    return text[: chosen.start()] + digits + text[chosen.end() :]


def swapped_name(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Replace a name by a name of another document."""
    own = Sentence(text).names
    others = [name for name in names if name not in own]
    if not own or not others:
        return text
    return text.replace(rng.choice(own), rng.choice(others), 1)


def negated(text: str, names: Sequence[str], rng: random.Random) -> str:
    """Remove a negation, or insert one after an auxiliary verb."""
    if _NOT.search(text):
        return _NOT.sub(r"\1", text, count=1)
    return _VERB.sub(r"\1 not", text, count=1)


MISQUOTED: dict[str, Change] = {
    "wrong number": wrong_number,
    "swapped name": swapped_name,
    "negated": negated,
}
