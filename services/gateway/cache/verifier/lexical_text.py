"""A text and the properties of its words."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache

from services.gateway.cache.verifier.vocabulary import (
    AUXILIARIES,
    NEGATIONS,
    NUMERALS,
    QUESTION_WORDS,
    STOP_WORDS,
    UNITS,
)
from services.words import MARKS, visible

# The marks of many scripts are vowels and tones. A soft hyphen within a word is no mark.
_LETTERS = rf"(?:[^\W_]|[{MARKS}])+"
_WORD = re.compile(rf"{_LETTERS}(?:['’]{_LETTERS})*")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
# Identifiers are within such runs. Longer runs are not identifiers, and searching them takes time
# that grows with the square of their length.
_RUN = re.compile(r"[\w.-]+")
_MAX_RUN = 100
_IDENTIFIER = re.compile(r"--?[a-z][\w-]*|\w+_\w+|\b[a-z]+[A-Z]\w*|\b[A-Za-z]+\d\w*|[\w-]+\.\w{2,}")
# Dotted and underscored names, and hyphenated ones with a digit: json.load, max_age, 7741-A.
_CODE = re.compile(r"\b[a-z_]\w+(?:\.\w{2,}|_\w+)+|\b(?:\w*\d\w*-\w+|\w+-\w*\d\w*)\b")


@dataclass(frozen=True)
class LexicalText:
    """A text and the properties of its words; each property is computed once."""

    raw: str

    @cached_property
    def words(self) -> list[str]:
        """The words in order, in lower case, without apostrophes."""
        return [re.sub("['’]", "", word) for word in _WORD.findall(self._lower)]

    @cached_property
    def _lower(self) -> str:
        return visible(self.raw).lower()

    @cached_property
    def content(self) -> list[str]:
        """The stems of the words that are not stop words, in order."""
        return [stem(word) for word in self.words if word not in STOP_WORDS]

    def same_content(self, other: "LexicalText") -> bool:
        """Return whether both texts have the same content words, in any order."""
        return set(self.content) == set(other.content)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """The numbers, as digits.

        Numerals count, except "one", which is just as often a pronoun.
        """
        return frozenset(self.number_counts)

    @cached_property
    def number_counts(self) -> Counter[str]:
        """How often each of the numbers occurs."""
        digits = (number.replace(",", "") for number in _NUMBER.findall(self.raw))
        numerals = (NUMERALS[word] for word in self.words if word in NUMERALS and word != "one")
        return Counter([*digits, *numerals])

    @cached_property
    def is_negated(self) -> bool:
        """Whether any word negates."""
        return self.negations > 0

    @cached_property
    def negations(self) -> int:
        """How many words negate."""
        return sum(word in NEGATIONS for word in self.words)

    @cached_property
    def question_word(self) -> str:
        """The first question word or auxiliary verb."""
        kinds = (AUXILIARIES.get(word, word) for word in self.words)
        return next((word for word in kinds if word in QUESTION_WORDS), "")

    @cached_property
    def names(self) -> frozenset[str]:
        """Capitalised words after the first word: most are names."""
        return frozenset(
            stem(word.lower())
            for word in _WORD.findall(visible(self.raw))[1:]
            if word[0].isupper() and word.lower() not in STOP_WORDS
        )

    @cached_property
    def units(self) -> frozenset[str]:
        """The units of measure."""
        return UNITS.intersection(self.words)

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Names that programs use: flags, snake_case, camelCase, files, model numbers."""
        runs = (run for run in _RUN.findall(self.raw) if len(run) <= _MAX_RUN)
        return frozenset(name for run in runs for name in _IDENTIFIER.findall(run))

    @cached_property
    def codes(self) -> frozenset[str]:
        """Names in which every character counts: of functions, settings, hosts and parts."""
        runs = (run for run in _RUN.findall(self.raw.lower()) if len(run) <= _MAX_RUN)
        return frozenset(name for run in runs for name in _CODE.findall(run))

    @cached_property
    def trigrams(self) -> frozenset[str]:
        """All runs of three characters in the words."""
        text = f" {' '.join(self.words)} "
        return frozenset(text[start : start + 3] for start in range(len(text) - 2))

    @cached_property
    def bigrams(self) -> frozenset[tuple[str, str]]:
        """All pairs of neighbouring content words."""
        return frozenset(zip(self.content, self.content[1:], strict=False))


@lru_cache(16384)
def stem(word: str) -> str:
    """Remove common English endings, so that most forms of a word become equal."""
    for ending in ("ingly", "edly", "ing", "ies", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:  # noqa: PLR2004 - keep a root
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] in "ey" else word  # noqa: PLR2004
