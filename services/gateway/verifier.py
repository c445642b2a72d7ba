"""Judges whether the answer to one question may be served for another.

``contradicts`` looks at the words: two questions that differ in a number, in a negation or by an
opposite have different answers however near their vectors are. ``probability`` looks at the
vectors.
"""

import math
import re

# A logistic curve over the cosine of two all-MiniLM-L6-v2 question vectors, fitted to 10,000 of the
# Quora question pairs that GPTCache publishes (github.com/zilliztech/GPTCache): the probability
# that the two ask the same. `tests/bench/cache.py` fits it again and prints how well it holds.
_SLOPE = 10.91
_MIDDLE = 0.816

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NEGATIONS = frozenset(
    """no not never none nobody nothing neither nor without cannot cant wont dont doesnt didnt isnt
    arent wasnt werent havent hasnt hadnt wouldnt shouldnt couldnt mustnt aint""".split()
)
_NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
_OPPOSITES = {
    frozenset(pair.split())
    for pair in """on off|enable disable|open close|start stop|begin end|first last|before after
    |up down|increase decrease|raise lower|high low|more less|most least|best worst|good bad
    |buy sell|import export|add remove|install uninstall|login logout|lock unlock|true false
    |win lose|allow deny|accept reject|hot cold|old new|male female|man woman|men women|boy girl
    |input output|maximum minimum|max min|cheap expensive|gain lose|advantage disadvantage
    |advantages disadvantages|pros cons|inside outside|legal illegal|possible impossible
    |positive negative|left right|north south|east west|day night|send receive|lend borrow
    |push pull|show hide|deposit withdraw|upload download|activate deactivate""".split("|")
}


def contradicts(one: str, other: str) -> str:
    """Return what makes two questions different for sure, or an empty string.

    The result is ``number``, ``negation`` or ``opposite``.
    """
    words, others = _words(one), _words(other)
    if _numbers(one, words) != _numbers(other, others):
        return "number"
    if _negated(words) != _negated(others):
        return "negation"
    changed = {frozenset((a, b)) for a in words - others for b in others - words}
    return "opposite" if changed & _OPPOSITES else ""


def probability(similarity: float) -> float:
    """Return the probability that questions of this cosine ask the same, in (0, 1)."""
    return 1 / (1 + math.exp(-_SLOPE * (similarity - _MIDDLE)))


def _words(text: str) -> frozenset[str]:
    return frozenset(re.sub("['’]", "", word) for word in _WORD.findall(text.lower()))


def _numbers(text: str, words: frozenset[str]) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)} | {
        _NUMERALS[word] for word in words & _NUMERALS.keys() - {"one"}
    }


def _negated(words: frozenset[str]) -> bool:
    return bool(words & _NEGATIONS)
