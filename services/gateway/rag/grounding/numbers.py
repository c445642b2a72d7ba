"""Reads the numbers of a text, with their units, however they are written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from services.gateway.cache.verifier.vocabulary import NUMERALS

_TENS = {
    word: 10 * value
    for value, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
    )
}
_WORDS = (
    {word: int(value) for word, value in NUMERALS.items()}
    | {
        word: value
        for value, word in enumerate(
            """thirteen fourteen fifteen sixteen seventeen eighteen nineteen""".split(), start=13
        )
    }
    | _TENS
    | {"hundred": 100, "dozen": 12, "once": 1, "twice": 2, "double": 2, "triple": 3}
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
UNITS = {
    name: names.split()[0]
    for names in """% percent percentage|$ usd dollar dollars|€ eur euro euros|£ gbp|¥ yen jpy
    |mg milligram milligrams|g gram grams|kg kilogram kilograms|µg μg mcg ug|ng|ml millilitre
    milliliter|l litre litres liter liters|mm millimetre millimeter|cm centimetre centimeter|m metre
    metres meter meters|km kilometre kilometres kilometer kilometers|mile miles|ms milliseconds
    |s sec seconds second|min minute minutes|h hr hour hours|day days|week weeks|month months
    |year years yr yrs|kb|mb|gb|tb|hz|khz|mhz|ghz|°c celsius|°f fahrenheit|nm|kda|mmol|mol""".split(
        "|"
    )
    for name in names.split()
}
_NUMBER = re.compile(
    r"(?P<currency>[$€£¥])?\s?(?<![^\W\d_])(?<![^\W\d_][-–])(?<![\d.,])"
    r"(?P<digits>\d{1,3}(?:[,\u00a0\u202f' ]\d{3})+(?:\.\d+)?(?!\d)|\d+(?:[.,]\d+)*)"
    r"(?:(?:st|nd|rd|th)\b)?(?:[\s\u00a0-]?(?P<scale>thousand|million|billion|trillion)\b)?"
    r"(?:[\s\u00a0-]?(?P<unit>%|per\s?cent\b|°?[^\W\d_]+))?",
    re.I,
)
_NUMERAL = re.compile(
    rf"\b(?P<tens>{'|'.join(_TENS)})-(?P<ones>{'|'.join(NUMERALS)})\b|\b(?P<word>{'|'.join(_WORDS)})\b"
    r"(?:[\s\u00a0-](?P<scale>hundred|thousand|million|billion|trillion)\b)?"
    r"(?:[\s\u00a0-](?P<unit>%|per\s?cent\b|°?[^\W\d_]+))?",
    re.I,
)
_HEDGE = re.compile(
    r"\b(?:about|around|approximately|nearly|almost|roughly|some|over|under|circa)\s+\Z|[~≈]\s?\Z",
    re.I,
)
_HEDGE_CHARACTERS = 16
_TOLERANCE = Decimal("0.05")


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a text.

    Attributes:
        text: how it is written.
        values: what it may mean: "1,234" is 1234 or, with a decimal comma, 1.234.
        unit: its unit, or "" if it has none that we know.
        is_word: whether it is a word, such as "two".
        is_rounded: whether a word such as "about" precedes it.
    """

    text: str
    values: frozenset[Decimal]
    unit: str = ""
    is_word: bool = False
    is_rounded: bool = False

    def agrees(self, other: "Number") -> bool:
        """Return whether ``other`` has the same value, and no other unit."""
        if self.unit and other.unit and self.unit != other.unit:
            return False
        if not self.values.isdisjoint(other.values):
            return True
        return self.is_rounded and any(
            abs(one - value) <= _TOLERANCE * value for one in self.values for value in other.values
        )


def numbers(text: str) -> list[Number]:
    """Return the numbers of a text. Digits within names, such as "IL-6", are no numbers."""
    return [*_digits(text), *_numerals(text)]


def _digits(text: str) -> Iterator[Number]:
    for match in _NUMBER.finditer(text):
        scale = _SCALES.get((match["scale"] or "").lower(), 1)
        start = match.start("digits")
        yield Number(
            text[
                match.start() : match.end("scale") if match["scale"] else match.end("digits")
            ].strip(),
            frozenset(value * scale for value in _values(match["digits"])),
            _unit(match["currency"] or match["unit"]),
            is_rounded=bool(_HEDGE.search(text, max(0, start - _HEDGE_CHARACTERS), start)),
        )


def _numerals(text: str) -> Iterator[Number]:
    for match in _NUMERAL.finditer(text):
        if match["tens"]:
            value = _TENS[match["tens"].lower()] + int(NUMERALS[match["ones"].lower()])
            yield Number(match[0], frozenset({Decimal(value)}), is_word=True)
            continue
        scale = (match["scale"] or "").lower()
        value = _WORDS[match["word"].lower()] * (_SCALES | {"": 1, "hundred": 100})[scale]
        written = text[match.start() : match.end("scale") if scale else match.end("word")]
        yield Number(written, frozenset({Decimal(value)}), _unit(match["unit"]), is_word=True)


def _values(digits: str) -> set[Decimal]:
    """Return what digits may mean, with decimal points and with decimal commas."""
    plain = re.sub(r"[\u00a0\u202f' ]", "", digits)
    found = set()
    for thousands, decimal in ((",", "."), (".", ",")):
        candidate = plain.replace(thousands, "").replace(decimal, ".")
        is_grouped = all(len(part) == 3 for part in plain.split(decimal)[0].split(thousands)[1:])  # noqa: PLR2004
        if is_grouped and candidate.count(".") <= 1:
            found.add(Decimal(candidate).normalize())
    return found or {Decimal(re.sub(r"\D", "", plain))}


def _unit(name: str | None) -> str:
    key = re.sub(r"\s", "", (name or "").lower())
    return UNITS.get(key, "")
