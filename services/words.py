"""Splits texts into words, alike in search, in filters, in the cache's verifier and in answers.

Texts are compared in Unicode's normal form NFKC (https://unicode.org/reports/tr15/) after case
folding. Invisible characters, such as soft hyphens and marks of direction, are dropped, and
combining marks belong to the letter before them. Chinese, Japanese, Korean, Thai, Lao, Khmer and
Burmese are split into overlapping pairs of characters, since no spaces separate their words, or
particles follow them without one. (Manning, Raghavan and Schütze, "Introduction to Information
Retrieval", 2008, section 2.2.1.)
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import chain, pairwise

# A collection records the version by which its texts were analysed.
ANALYSIS_VERSION = 2
# The planes above have no marks, and their only invisible characters are in the last range.
_CLASSIFIED = (*range(0x80, 0x1F000), *range(0xE0000, 0xE0200))
# Invisible characters beside those of category Cf: joiners, fillers and variation selectors.
_ALSO_INVISIBLE = frozenset(
    chain(
        (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
)


def _character_class(contains: Callable[[int], bool]) -> str:
    """Return the members of a regular expression's character class."""
    ranges: list[list[int]] = []
    for code in filter(contains, _CLASSIFIED):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def _is_invisible(code: int) -> bool:
    return code in _ALSO_INVISIBLE or unicodedata.category(chr(code)) == "Cf"


# Combining marks, which belong to the letter before them: accents, vowels and tones.
MARKS = _character_class(
    lambda code: unicodedata.category(chr(code))[0] == "M" and not _is_invisible(code)
)
# Letters that are split into pairs: Thai, Lao, Burmese, Khmer, Hangul, kana, bopomofo and Han.
_PAIRED = (
    "\u0e00-\u0e4f\u0e5a-\u0ecf\u0eda-\u0eff\u1000-\u103f\u104a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9ff"
    "\uaa60-\uaa7f\u1100-\u11ff\u1780-\u17df\u17ea-\u17ff\u3005-\u3007\u3021-\u3035\u3038-\u303c"
    "\u3041-\u30ff\u3105-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_INVISIBLE = re.compile(f"[{_character_class(_is_invisible)}]+")
_WORD = re.compile(rf"[\w{MARKS}]+")
_PLAIN_WORD = re.compile(r"\w+")
_HAS_SPECIAL = re.compile(f"[{MARKS}{_PAIRED}]")
_PART = re.compile(f"(?P<paired>(?:[{_PAIRED}][{MARKS}]*)+)|[^{_PAIRED}]+")
_CHARACTER = re.compile(f".[{MARKS}]*", re.S)


def visible(text: str) -> str:
    """Return a text in normal form C without its invisible characters."""
    return text if text.isascii() else _INVISIBLE.sub("", unicodedata.normalize("NFC", text))


def folded(text: str) -> str:
    """Return a text in the form in which words are compared.

    The Turkish letters İ and ı become i, because texts in other languages write them so.
    """
    if text.isascii():
        return text.lower()
    shown = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    lower = unicodedata.normalize("NFKC", shown.casefold())
    return lower.replace("i\u0307", "i").replace("ı", "i")


def words(text: str) -> list[str]:
    """Return the words of a text in order, in the form in which they are compared.

    Where pairs of characters stand for words, each single character follows too, so that a query
    with a single character finds it.
    """
    return list(_words(text, with_characters=True))


def query_words(text: str) -> list[str]:
    """Return the words that a text must have to match a query; see ``words``."""
    return list(_words(text, with_characters=False))


def _words(text: str, *, with_characters: bool) -> Iterator[str]:
    text = folded(text)
    if text.isascii() or not _HAS_SPECIAL.search(text):
        yield from _PLAIN_WORD.findall(text)
        return
    for word in _WORD.findall(text):
        for part in _PART.finditer(word):
            if part["paired"]:
                yield from _pairs(part[0], with_characters=with_characters)
            else:
                yield part[0]


def _pairs(text: str, *, with_characters: bool) -> Iterator[str]:
    characters = _CHARACTER.findall(text)
    yield from map("".join, pairwise(characters))
    if with_characters or len(characters) == 1:
        yield from characters
