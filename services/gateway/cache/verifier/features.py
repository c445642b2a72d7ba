"""Lexical features of two texts, from which the verifier judges whether they ask the same.

``contradiction`` names the difference that most likely gives two texts different meanings. The
differences that certainly do are in ``rules``.
``lexical_features`` measures the rest: overlap, order, question words, names, units, identifiers.
Both treat the two texts symmetrically.
"""

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.vocabulary import ANTONYMS

_ANTONYMS_OF: defaultdict[str, set[str]] = defaultdict(set)
for _one, _other in map(tuple, ANTONYMS):
    _ANTONYMS_OF[_one].add(_other)
    _ANTONYMS_OF[_other].add(_one)


def contradiction(one: LexicalText, other: LexicalText) -> str:
    """Return ``number``, ``negation`` or ``opposite`` if two texts differ in one, or ""."""
    if one.numbers != other.numbers:
        return "number"
    if one.negations != other.negations:
        return "negation"
    return "opposite" if _has_antonyms(one, other) else ""


def _has_antonyms(one: LexicalText, other: LexicalText) -> bool:
    words, others = frozenset(one.words), frozenset(other.words)
    left, right = words - others, others - words
    return any(word in _ANTONYMS_OF and not right.isdisjoint(_ANTONYMS_OF[word]) for word in left)


# Names of the lexical features; ``_min`` and ``_max`` are the smaller and larger of both texts'.
FEATURE_NAMES = tuple(
    """number negation opposite question_word names_min names_max names_overlap unit identifier
    overlap missing_min missing_max rarest_min rarest_max contained trigrams bigrams
    same_last_word same_first_word common_order swapped words_min words_max""".split()
)


def lexical_features(
    one: LexicalText, other: LexicalText, rarity: Callable[[str], float]
) -> list[float]:
    """Return the features of two texts in the order of FEATURE_NAMES.

    ``rarity`` returns how rare a stem is.
    """
    other_number, other_negation = one.numbers != other.numbers, one.is_negated != other.is_negated
    return [
        float(other_number),
        float(other_negation),
        float(not other_number and not other_negation and _has_antonyms(one, other)),
        float(one.question_word != other.question_word),
        *_sorted(len(one.names - other.names), len(other.names - one.names)),
        _jaccard(one.names, other.names),
        float(one.units != other.units),
        float(one.identifiers != other.identifiers),
        *_overlap(one, other, rarity),
        _jaccard(one.trigrams, other.trigrams),
        _jaccard(one.bigrams, other.bigrams),
        *_word_order(one, other),
        *_sorted(len(one.words), len(other.words)),
    ]


def feature_row(
    one: LexicalText, other: LexicalText, similarity: float, rarity: Callable[[str], float]
) -> NDArray[np.float64]:
    """Return the trees' input, [features]: lexical features, the cosine and its fourth power."""
    return np.array([*lexical_features(one, other, rarity), similarity, similarity**4])


def _overlap(one: LexicalText, other: LexicalText, rarity: Callable[[str], float]) -> list[float]:
    left, right = Counter(one.content), Counter(other.content)
    shared = sum(rarity(word) for word in left & right)
    missing = [[rarity(word) for word in only] for only in (left - right, right - left)]
    less, more = sorted(sum(rarities) for rarities in missing)
    return [
        shared / (shared + less + more) if shared + less + more else 1.0,
        less,
        more,
        *_sorted(*(max(rarities, default=0.0) for rarities in missing)),
        shared / (shared + less) if shared + less else 1.0,
    ]


def _word_order(one: LexicalText, other: LexicalText) -> list[float]:
    """Compare the first word, the last word and the order of the common words."""
    left, right = one.content, other.content
    common = {*left} & {*right}
    left_common = [word for word in left if word in common]
    right_common = [word for word in right if word in common]
    length = longest_common_subsequence(left_common, right)
    return [
        float(left[-1:] == right[-1:]),
        float(left[:1] == right[:1]),
        length / max(len(left), len(right), 1),
        float(len(common) > 1 and left_common != right_common),
    ]


def longest_common_subsequence(left: list[str], right: list[str]) -> int:
    """Return the length of the longest common subsequence of two lists of words.

    One bit of an integer stands for each word of ``right``, so a row of the usual table costs a few
    operations (H. Hyyrö, "Bit-parallel LCS-length computation revisited", 2004).
    """
    positions: defaultdict[str, int] = defaultdict(int)
    for position, word in enumerate(right):
        positions[word] |= 1 << position
    full = (1 << len(right)) - 1
    row = full
    for word in left:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(right) - row.bit_count()


def _jaccard(one: frozenset[object], other: frozenset[object]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _sorted(one: float, other: float) -> tuple[float, float]:
    return min(one, other), max(one, other)
