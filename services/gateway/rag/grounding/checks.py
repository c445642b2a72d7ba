"""Checks the words, numbers, names and negations of a sentence against the passages it cites.

The checks know English. Of sentences in other languages they check the numbers and identifiers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from services.gateway.cache.verifier.antonyms import have_opposites
from services.gateway.rag.grounding.numbers import Number
from services.gateway.rag.grounding.sentence import Sentence, initials
from services.gateway.rag.types import Reason

# Shares of a statement's words. Chosen on the first half of the abstracts of SciFact;
# `tests/bench/grounding.py` measures the other half.
MIN_FOUND = 0.5  # in the cited passages, or else nothing in them supports the statement
CLOSE = 0.6  # in one sentence of a passage: both say the same, apart from their differences
_MUCH_CLOSER = 0.25  # another passage has more of the words: the statement cites the wrong one
_MIN_WORDS = 3
_MIN_PREFIX, _PREFIX_SHARE = 4, 0.6  # "Japan" and "Japanese" are one name


@dataclass(frozen=True)
class Finding:
    """What the passages do not support: the reason, and the words it is about."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class PassageText:
    """The sentences of a passage, with its title and section."""

    sentences: Sequence[Sentence]

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all sentences."""
        return frozenset().union(*(one.stems for one in self.sentences))

    @cached_property
    def numbers(self) -> list[Number]:
        """The numbers of all sentences."""
        return [number for one in self.sentences for number in one.numbers]

    @cached_property
    def names(self) -> frozenset[str]:
        """All words in lower case without hyphens, and the initials of names of several words."""
        tokens = {_plain(token) for one in self.sentences for token in one.tokens}
        words = {word for one in self.sentences for word in one.words}
        return frozenset(
            tokens | words | {name for one in self.sentences for name in initials(one.tokens)}
        )

    def found(self, statement: Sentence) -> float:
        """Return the share of a statement's words that the passage has."""
        return len(statement.stems & self.stems) / max(len(statement.stems), 1)

    def closest(self, stems: frozenset[str]) -> tuple[float, Sentence]:
        """Return the sentence with the largest share of some stems, and the share.

        Of several, return the shortest.
        """
        best = max(self.sentences, key=lambda one: (len(stems & one.stems), -len(one.stems)))
        return len(stems & best.stems) / max(len(stems), 1), best


def check(
    statement: Sentence,
    cited: PassageText,
    others: Sequence[PassageText],
    *,
    is_found: bool = False,
) -> Finding | None:
    """Return what the cited passages do not support in a statement, or None.

    Args:
        statement: a sentence of an answer.
        cited: the passages that it cites, as one text.
        others: the other passages of the answer.
        is_found: whether the passages are known to have what the statement says, in other words.
    """
    english = statement.is_english and any(one.is_english for one in cited.sentences)
    if english and not is_found and not _is_found(statement, cited, others):
        return Finding("not_found")
    share, closest = cited.closest(statement.plain_stems)
    if number := _wrong_number(statement, cited, closest if share >= CLOSE else None):
        return Finding("number", number)
    if name := _wrong_name(
        statement, cited, closest if english and share >= CLOSE else None, english
    ):
        return Finding("name", name)
    if english and share >= CLOSE and (word := _negated(statement, closest)):
        return Finding("negation", word)
    return None


def _is_found(statement: Sentence, cited: PassageText, others: Sequence[PassageText]) -> bool:
    found = cited.found(statement)
    if len(statement.stems) < _MIN_WORDS:  # "Yes."
        return found > 0 or len(statement.stems) == 1
    if found < MIN_FOUND:
        return False
    best = max((one.found(statement) for one in others), default=0.0)
    return found >= CLOSE or best < found + _MUCH_CLOSER


def _wrong_number(statement: Sentence, cited: PassageText, closest: Sentence | None) -> str:
    """Return a number that the passages lack, or that they give in another place; "" without."""
    for number in statement.numbers:
        if number.is_word and number.text.lower() == "one":
            continue  # usually a pronoun
        if not any(number.agrees(one) for one in cited.numbers):
            return number.text
        if closest and not any(number.agrees(one) for one in closest.numbers):
            missing = [
                one
                for one in closest.numbers
                if not one.is_word and not any(other.agrees(one) for other in statement.numbers)
            ]
            if missing:
                return number.text
    return ""


def _wrong_name(
    statement: Sentence, cited: PassageText, closest: Sentence | None, english: bool
) -> str:
    """Return a name that the passages lack, or that they give in another place; "" without."""
    run = set(initials(statement.tokens))
    acronyms = run & cited.names
    for name in statement.names:
        is_identifier = any(map(str.isdigit, name))
        if not english and not is_identifier:
            continue
        if not _has_name(name, cited.names) and not any(name[0].lower() in one for one in acronyms):
            return name
    if closest:
        return _swapped_name(statement, closest)
    return ""


def _swapped_name(statement: Sentence, closest: Sentence) -> str:
    """Return the name of a statement in the place of another name of the closest sentence."""
    known = {_plain(token) for token in closest.tokens} | {*closest.words}
    own = {_plain(token) for token in statement.tokens} | {*statement.words}
    added = [name for name in statement.names if not _has_name(name, known)]
    missing = [name for name in closest.names if not _has_name(name, own)]
    return added[0] if added and len(missing) >= len(added) else ""


def _has_name(name: str, known: frozenset[str] | set[str]) -> bool:
    plain = _plain(name)
    if plain in known or plain.removesuffix("s") in known or f"{plain}s" in known:
        return True
    if any(map(str.isdigit, name)):
        return False
    parts = [part for part in name.lower().replace("–", "-").split("-") if part]
    if len(parts) > 1 and all(part in known for part in parts):
        return True
    return len(plain) >= _MIN_PREFIX and any(
        _common_prefix(plain, one)
        >= max(_MIN_PREFIX, math.ceil(_PREFIX_SHARE * max(len(plain), len(one))))
        for one in known
        if one[:_MIN_PREFIX] == plain[:_MIN_PREFIX]
    )


def _common_prefix(one: str, other: str) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def _plain(token: str) -> str:
    return token.lower().removesuffix("'s").removesuffix("’s").replace("-", "").replace("–", "")


def _negated(statement: Sentence, closest: Sentence) -> str:
    """Return a word that only one of two close sentences negates; "" without."""
    for one, other in ((statement, closest), (closest, statement)):
        for word in one.negated:
            if word in other.stems and word not in other.widely_negated:
                return word
    if have_opposites(statement.words, closest.words):
        return "the opposite"
    return ""
