"""A sentence of an answer or of a passage: its words, numbers, names and negated words."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from services.gateway.cache.verifier.language import is_english
from services.gateway.cache.verifier.lexical_text import stem
from services.gateway.cache.verifier.vocabulary import NEGATIONS, STOP_WORDS
from services.gateway.rag.grounding.numbers import UNITS, Number, numbers
from services.words import MARKS, visible

_LETTERS = rf"(?:[^\W_]|[{MARKS}])+"
_TOKEN = re.compile(rf"{_LETTERS}(?:[-–'’.]{_LETTERS})*")
_MARKDOWN = re.compile(
    r"\s*\[\d{1,4}\]|^\s*(?:[-*•>#]+|\d{1,3}[.)])\s+"
    r"|(?<!\w)[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}(?!\w)",
    re.M,
)
_HYPHENS = re.compile(r"[-–'’.]")
_NEGATORS = NEGATIONS | set(
    """fail fails failed failing lack lacks lacked lacking absence unable hardly rarely
    non""".split()
)
# Prepositions, and how writers refer to a passage.
_FUNCTION_WORDS = STOP_WORDS | set(
    """on from to by per according passage passages document documents source sources""".split()
)
# Phrases with a word that negates nothing: "not only", "no longer than", "whether or not".
_IDIOM = re.compile(
    r"\b(?:not (?:only|just|merely)|(?:or|why|if) not|no (?:longer|more|less) than|no doubt)\b",
    re.I,
)
_SCOPE = 4  # content words after a negation that it may negate
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_LETTER = re.compile(r"[^\W\d_]")
_MIN_LATIN = 0.8
_LAST_LETTER = "\u052f"  # of the Latin, Greek and Cyrillic scripts, which have capitals


@dataclass(frozen=True)
class Sentence:
    """A sentence; each property is computed once."""

    text: str

    @classmethod
    def of_answer(cls, text: str) -> "Sentence":
        """Return a sentence of an answer, without its marks and Markdown."""
        return cls(_MARKDOWN.sub("", text).strip())

    @cached_property
    def tokens(self) -> list[str]:
        """The words as written; a hyphen joins parts of one word."""
        return _TOKEN.findall(visible(self.text))

    @cached_property
    def words(self) -> list[str]:
        """The words in lower case, without apostrophes; parts that a hyphen joins are words."""
        return [
            part
            for token in self.tokens
            for part in _HYPHENS.sub("-", re.sub("['’]", "", token).lower()).split("-")
        ]

    @cached_property
    def content(self) -> list[str]:
        """The stems of the words, in order, without stop words, negations and numbers."""
        return [stem(word) for word in self.words if _is_content(word)]

    @cached_property
    def stems(self) -> frozenset[str]:
        """The distinct stems of ``content``."""
        return frozenset(self.content)

    @cached_property
    def numbers(self) -> list[Number]:
        """The numbers."""
        return numbers(self.text)

    @cached_property
    def names(self) -> list[str]:
        """Names as written: words with capitals or digits, but not only at the beginning."""
        return [
            token
            for place, token in enumerate(self.tokens)
            if token.lower() not in UNITS
            and (_is_identifier(token) or (place and token[0].isupper()))
            and _is_content(token.lower())
        ]

    @cached_property
    def plain_stems(self) -> frozenset[str]:
        """The stems of ``content`` without those of names."""
        return self.stems - {stem(word) for name in self.names for word in _words(name)}

    @cached_property
    def negated(self) -> frozenset[str]:
        """The stem of the content word after each negation."""
        return frozenset(self._after_negations(1))

    @cached_property
    def widely_negated(self) -> frozenset[str]:
        """The stems of the next content words after each negation."""
        return frozenset(self._after_negations(_SCOPE))

    def _after_negations(self, count: int) -> Iterator[str]:
        words = [*_words(_IDIOM.sub(" ", self.text))]
        for place, word in enumerate(words):
            if word in _NEGATORS:
                nearby = islice(words, place + 1, place + 1 + 2 * _SCOPE)
                yield from islice((stem(one) for one in nearby if _is_content(one)), count)

    @cached_property
    def is_english(self) -> bool:
        """Whether the words are in Latin script, and not mostly of another language."""
        letters = _LETTER.findall(self.text)
        latin = sum(bool(_LATIN.match(letter)) for letter in letters)
        return latin >= _MIN_LATIN * len(letters) and is_english(self.words, lambda _: True)


def _words(text: str) -> Iterator[str]:
    for token in _TOKEN.findall(text):
        yield from _HYPHENS.sub("-", re.sub("['’]", "", token).lower()).split("-")


def _is_content(word: str) -> bool:
    return word not in _FUNCTION_WORDS and word not in _NEGATORS and not word[0].isdigit()


def _is_identifier(token: str) -> bool:
    """Return whether a word has capitals or digits within, such as "IL-6", "TNF" or "iPhone"."""
    letters = [letter for letter in token if letter.isalpha()]
    if not letters or max(letters) > _LAST_LETTER:
        return False
    has_digit = any(map(str.isdigit, token)) and token[0].isalpha()
    return has_digit or any(map(str.isupper, letters[1:]))


def initials(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the initials of each run of 2 to 6 capitalised words, in lower case."""
    run: list[str] = []
    for token in [*tokens, ""]:
        if token[:1].isupper():
            run.append(token[0].lower())
            continue
        for start in range(len(run)):
            for end in range(start + 2, min(start + 6, len(run)) + 1):
                yield "".join(run[start:end])
        run = []
