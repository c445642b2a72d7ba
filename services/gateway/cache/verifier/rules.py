"""Rules for texts that never ask the same, however near their vectors are.

The rules know English. Texts that are not certainly English may ask the same only if they have the
same words in the same order.
"""

import difflib
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection

from services.gateway.cache.verifier.antonyms import have_opposites
from services.gateway.cache.verifier.language import is_english
from services.gateway.cache.verifier.lexical_text import LexicalText, stem
from services.gateway.cache.verifier.vocabulary import NEGATIONS, STOP_WORDS
from services.gateway.cache.verifier.word_classes import class_members, differing_class
from services.gateway.cache.verifier.word_order import Roles, roles_of, swaps_roles
from services.words import visible

# Models read only the start of a longer text, so the words of longer texts must be equal. The limit
# also bounds the work.
MAX_CHARACTERS = 1024
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*(?:\+\+|#)?|[$€£¥₹]")
_SUFFIX_SYMBOL = re.compile(r"(?<=\w)(?:\+\+?|#)(?![\w+])")
_CAPITAL = re.compile(r"\b[A-Z]\w*")
_LAST_LATIN = "\u024f"

_OPERATOR = re.compile(r"(?<=\d)\s{0,3}([-+*/×÷^<>])\s{0,3}(?=\d)")
# "or not" names the alternative and "why not" asks for a reason. They negate nothing.
_TAG = re.compile(r"\b(?:or|why|if)\s+not\b|\bnot only\b", re.I)
# A list of all good books and a list of some answer the same question.
_LISTING = re.compile(
    r"\b(?:(?:what|which|who|where)\s+(?:are|is)|of|me|list|show)\s+(?:all|some)\b", re.I
)
# Another person may hold an office now. A work keeps its author.
_OFFICE = re.compile(
    r"\bwho (is|was) the\b(?! (?:most|best|first|\w+est|author|writer|inventor|founder|creator|"
    r"composer|painter|discoverer|architect)\b)",
    re.I,
)
# Options of commands, and comparisons and assignments of programs.
_OPTION = re.compile(r"(?<!\S)--?[A-Za-z][\w-]*")
_COMPARISON = re.compile(r"(?<![-=<>\w])[<>](?![\w/!?])|[-+*/!=<>]=")
_KEPT = 64
_SAME_NAME = 0.7  # names with this similarity are spellings of one name
_MEASURES = frozenset(
    """many much long old far often tall high big wide deep heavy fast large hot cold soon people
    person time""".split()
)
# A place or a reason may describe a method: "how" and "where can I learn to sing".
_EXCHANGEABLE = (
    {"how", "where"}, {"how", "why"}, {"how much", "how many"}, {"how much", "how long"},
)  # fmt: skip
_MAX_OWNER_WORDS = 6  # in longer questions, "your" may mean anybody's
_PRONOUNS = frozenset("i we you he she it they there this that".split())
_FUTURE, _PAST = frozenset("will wont shall".split()), frozenset("did was were didnt wasnt".split())
_MINE, _YOURS = frozenset("my mine our ours".split()), frozenset(("your", "yours"))
_SUBJECTS = frozenset(("i", "we", "you"))
_QUANTITIES = frozenset("all some none no every each only except still longer anymore".split())

# With these differences, the texts may still ask the same. The rules cannot know.
UNCERTAIN = ("language", "long")


def is_long(one: LexicalText, other: LexicalText) -> bool:
    """Return whether a text is so long that only its words are compared."""
    return max(len(one.raw), len(other.raw)) > MAX_CHARACTERS


def differing(one: LexicalText, other: LexicalText, is_known: Callable[[str], bool]) -> str:
    """Return the kind of a difference for which two texts never ask the same, or "".

    Args:
        one: a text.
        other: another text.
        is_known: whether a stem occurs in the English questions that the verifier was trained on.
    """
    if is_long(one, other):
        return "" if one.raw.lower().split() == other.raw.lower().split() else "long"
    if not (_is_english(one, is_known) and _is_english(other, is_known)):
        return "" if _plain_words(one) == _plain_words(other) else "language"
    if _words_of_other_scripts(one) != _words_of_other_scripts(other):
        return "language"
    if _differ_in_a_rare_word(one, other, is_known):
        return "name"
    return next((name for name, differ in _RULES.items() if differ(one, other)), "")


# A question is compared with several candidates, so its properties are cached for a while.
@functools.lru_cache(_KEPT)
def _members(text: LexicalText) -> dict[str, Counter[str]]:
    return class_members(_TOKEN.findall(text.raw.lower()))


@functools.lru_cache(_KEPT)
def _roles(text: LexicalText) -> Roles:
    return roles_of(text.raw)


def _is_english(text: LexicalText, is_known: Callable[[str], bool]) -> bool:
    return is_english(text.words, lambda word: is_known(stem(word)))


def _plain_words(text: LexicalText) -> list[str]:
    """Return the parts between spaces and punctuation, except English stop words.

    They keep the marks that are vowels and tones in many scripts, and symbols such as emoji.
    """
    separated = "".join(
        " " if unicodedata.category(character)[0] in "PZC" else character
        for character in visible(text.raw).lower()
    )
    return [stem(word) for word in separated.split() if word not in STOP_WORDS]


def _words_of_other_scripts(text: LexicalText) -> list[str]:
    """Return the words with a letter beyond Latin script or with a picture, such as an emoji."""
    if text.raw.isascii():
        return []
    return [word for word in _plain_words(text) if any(map(_is_of_other_script, word))]


def _is_of_other_script(character: str) -> bool:
    category = unicodedata.category(character)
    return category == "So" or (category[0] == "L" and character > _LAST_LATIN)


def _differ_in_numbers(one: LexicalText, other: LexicalText) -> bool:
    left, right = (
        Counter(number.replace(":", ".") for number in text.number_counts.elements())
        for text in (one, other)
    )
    ones = one.words.count("one") - other.words.count("one")  # a pronoun in both texts
    (left if ones > 0 else right)["1"] += abs(ones)
    return bool(left - right) and bool(right - left)


def _differ_in_symbols(one: LexicalText, other: LexicalText) -> bool:
    operators, others = (_OPERATOR.findall(text.raw) for text in (one, other))
    suffixes = (_SUFFIX_SYMBOL.findall(text.raw) for text in (one, other))
    found = [(operators, others)]
    found += [(sign.findall(one.raw), sign.findall(other.raw)) for sign in (_OPTION, _COMPARISON)]
    differ = any(left and right and left != right for left, right in found)
    return differ or len({*map(tuple, suffixes)}) > 1


def _differ_in_a_class(one: LexicalText, other: LexicalText) -> bool:
    return bool(differing_class(_members(one), _members(other)))


def _have_opposites(one: LexicalText, other: LexicalText) -> bool:
    return have_opposites(one.words, other.words)


def _swap_roles(one: LexicalText, other: LexicalText) -> bool:
    return swaps_roles(_roles(one), _roles(other))


def _differ_in_a_name(one: LexicalText, other: LexicalText) -> bool:
    """Return whether two texts differ in one word that is a name in both."""
    name, changed = _only_difference(one, other)
    if name not in one.names or changed not in other.names or _is_title(one) or _is_title(other):
        return False
    return not _are_spellings(name, changed)


def _differ_in_a_rare_word(
    one: LexicalText, other: LexicalText, is_known: Callable[[str], bool]
) -> bool:
    """Return whether two texts differ in one word that is unknown in both (usually a name)."""
    word, changed = _only_difference(one, other)
    if not word or is_known(word) or is_known(changed):
        return False
    return not _are_spellings(word, changed)


def _only_difference(one: LexicalText, other: LexicalText) -> tuple[str, str]:
    """Return the stems in which two texts differ, or empty texts unless each has exactly one."""
    left, right = {*one.content} - {*other.content}, {*other.content} - {*one.content}
    return (left.pop(), right.pop()) if len(left) == len(right) == 1 else ("", "")


def _is_title(text: LexicalText) -> bool:
    """Return whether words that are not names have capitals too."""
    capitals = (word for word in _CAPITAL.findall(text.raw[1:]) if word != "I")
    return any(word.lower() in STOP_WORDS for word in capitals)


def _are_spellings(name: str, other: str) -> bool:
    if name.startswith(other) or other.startswith(name):
        return True
    return difflib.SequenceMatcher(None, name, other).ratio() >= _SAME_NAME


def _differ_in_negation(one: LexicalText, other: LexicalText) -> bool:
    if any(_TAG.search(text.raw) for text in (one, other)):
        return False
    negations = NEGATIONS | {"non"}
    return _negations(one) % 2 != _negations(other) % 2 and _same_rest(one, other, negations)


def _negations(text: LexicalText) -> int:
    """Count the words that negate, except in rhetorical questions: "Can't I return it?"."""
    words = ["", *text.words, ""]
    return words.count("non") + sum(
        word in NEGATIONS
        and not (word.endswith("nt") and following in _PRONOUNS and before not in ("why", "how"))
        for before, word, following in zip(words, words[1:], words[2:], strict=False)
    )


def _differ_in_what_is_asked(one: LexicalText, other: LexicalText) -> bool:
    left, right = _question_kinds(one.words), _question_kinds(other.words)
    return any(
        not _are_exchangeable(kind, changed) for kind in left - right for changed in right - left
    ) and _same_rest(one, other, _MEASURES)


def _are_exchangeable(kind: str, changed: str) -> bool:
    if {kind, changed} in _EXCHANGEABLE:
        return True
    return "how" in (kind, changed) and kind.startswith("how") and changed.startswith("how")


def _question_kinds(words: Collection[str]) -> set[str]:
    kinds = set()
    for word, following in zip(words, [*words, ""][1:], strict=False):
        word = word.removesuffix("s") if word in ("whos", "whens", "wheres") else word  # noqa: PLW2901
        if word == "how":
            kinds.add(f"how {following}" if following in _MEASURES else "how")
        elif word in ("who", "when", "where", "why"):
            kinds.add(word)
    return kinds


def _differ_in_tense(one: LexicalText, other: LexicalText) -> bool:
    if "would" in {*one.words, *other.words}:
        return False
    for left, right in ((one, other), (other, one)):
        if not _FUTURE.isdisjoint(left.words) and not _PAST.isdisjoint(right.words):
            return _PAST.isdisjoint(left.words) and _same_rest(one, other, ())
    holders = (_OFFICE.findall(text.raw.lower()) for text in (one, other))
    return {*map(tuple, holders)} == {("is",), ("was",)} and _same_rest(one, other, ())


def _differ_in_quantity(one: LexicalText, other: LexicalText) -> bool:
    words = one.words, other.words
    differs = any(("all" in left) and ("some" in right) for left, right in (words, words[::-1]))
    if differs:
        differs = not any(_LISTING.search(text.raw) for text in (one, other))
    differs = differs or any(
        (word in words[0]) != (word in words[1]) for word in ("only", "except")
    )
    return differs and _same_rest(one, other, _QUANTITIES)


def _differ_in_owner(one: LexicalText, other: LexicalText) -> bool:
    """Return whether one text is about my things and the other about yours.

    "How do I" and "how do you reset … password" are the same question, whoever owns it. "Can I pay
    you?" and "can you pay me?" are not.
    """
    left, right = {*one.words}, {*other.words}
    if any(words >= {"i", "you"} and "i" not in others and others >= {"you", "me"}
           for words, others in ((left, right), (right, left))):  # fmt: skip
        return "me" not in left & right and _same_rest(one, other, ())
    is_long = max(len(one.words), len(other.words)) > _MAX_OWNER_WORDS
    if is_long or left & _SUBJECTS or right & _SUBJECTS:
        return False
    return bool(
        (left & _MINE and right & _YOURS and not left & _YOURS and not right & _MINE)
        or (left & _YOURS and right & _MINE and not left & _MINE and not right & _YOURS)
    )


def _same_rest(one: LexicalText, other: LexicalText, apart: Collection[str]) -> bool:
    """Return whether two texts have the same content words, apart from some."""
    left, right = (
        {stem(word) for word in text.words if word not in STOP_WORDS and word not in apart}
        for text in (one, other)
    )
    return left - _QUANTITIES == right - _QUANTITIES


_RULES: dict[str, Callable[[LexicalText, LexicalText], bool]] = {
    "number": _differ_in_numbers,
    "symbol": _differ_in_symbols,
    "class": _differ_in_a_class,
    "opposite": _have_opposites,
    "order": _swap_roles,
    "name": _differ_in_a_name,
    "negation": _differ_in_negation,
    "asked": _differ_in_what_is_asked,
    "tense": _differ_in_tense,
    "quantity": _differ_in_quantity,
    "owner": _differ_in_owner,
    "code": lambda one, other: bool(one.codes - other.codes and other.codes - one.codes),
}
