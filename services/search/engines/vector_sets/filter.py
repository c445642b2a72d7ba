"""The filter tree in the dialect of vector sets (VSIM … FILTER).

Every document's attributes carry, for the declared field number ``i``: ``h<i>``, 1 if it has a
value, else 0, and the value: ``n<i>`` a number, ``t<i>`` the encoded tags or words, ``x<i>``,
``y<i>``, ``z<i>`` a place as a unit vector. What is missing has a value too, because an expression
that meets a missing attribute drops the element whatever the operator. Negations are pushed down to
the comparisons.
Syntax: https://redis.io/docs/latest/develop/data-types/vector-sets/filtered-search/
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping

from services.search.filters import Condition, Exists, Geo, Group, Number, Place, Tag, Value, words

_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_OPPOSITE = {"eq": "!=", "ne": "==", "lt": ">=", "le": ">", "gt": "<=", "ge": "<"}
_LITERAL = 20
_TOKEN_BYTES = 32
# A list that is never empty, so that ``in`` always has one to look in.
_NO_TOKEN = "-"  # noqa: S105 - a token of text
TRUE, FALSE = "1 == 1", "1 == 0"

# Declared fields, name to type, in the order of their declaration.
Declared = Mapping[str, str]


def attributes(fields: Mapping[str, Value], declared: Declared, expires: int) -> str:
    """Return a document's attributes as JSON; ``expires`` is in ms since 1970, 0 for never."""
    found: dict[str, object] = {"e": expires}
    for number, (name, kind) in enumerate(declared.items()):
        value = fields.get(name)
        found[f"h{number}"] = int(value is not None)
        if kind == "number":
            found[f"n{number}"] = value or 0
        elif kind == "geo":
            place = value.unit() if isinstance(value, Place) else (0, 0, 0)
            found |= zip((f"x{number}", f"y{number}", f"z{number}"), place, strict=True)
        else:
            found[f"t{number}"] = [_NO_TOKEN, *sorted(tokens(value, kind))]
    return json.dumps(found, separators=(",", ":"))


def tokens(value: Value | None, kind: str) -> set[str]:
    """Return the tokens of tags, or of a text's words."""
    if value is None:
        return set()
    if kind == "text":
        return {_token(word) for word in words(str(value))}
    return {_token(tag) for tag in ((value,) if isinstance(value, str) else value)}  # type: ignore[union-attr]


def _token(text: str) -> str:
    """Return a text in letters and digits alone: no quotes, no escapes, nothing to inject."""
    data = text.encode()
    if len(data) > _TOKEN_BYTES:
        return "s" + hashlib.sha256(data).hexdigest()
    return "x" + data.hex()


def compile_filter(condition: Condition | None, declared: Declared, *, expiring: bool) -> str:
    """Return the expression of a checked condition; empty if every document meets it.

    With ``expiring``, documents whose end has come meet nothing.
    """
    parts = []
    if condition:
        numbers = {name: number for number, name in enumerate(declared)}
        parts.append(_compile(condition, numbers, negate=False))
    if expiring:
        parts.append(f"(.e == 0 or .e > {int(time.time() * 1000)})")
    return " and ".join(parts)


def _compile(condition: Condition, numbers: Mapping[str, int], *, negate: bool) -> str:
    if isinstance(condition, Group):
        return _group(condition, numbers, negate=negate)
    number = numbers[condition.field]
    if isinstance(condition, Exists):
        return f"(.h{number} == {int(not negate)})"
    if isinstance(condition, Number | Geo):  # what is missing is stored as 0
        comparison = _comparison(condition, number, negate=negate)
        return f"(.h{number} == {'0 or' if negate else '1 and'} {comparison})"
    if isinstance(condition, Tag):
        tokens, joined = condition.tags, " or "
    else:
        tokens, joined = tuple(words(condition.matches)), " and "
    found = joined.join(f'"{_token(token)}" in .t{number}' for token in dict.fromkeys(tokens))
    return f"(not ({found}))" if negate else f"({found})"


def _group(group: Group, numbers: Mapping[str, int], *, negate: bool) -> str:
    """Join the members; none_of is "not any of", and a negation swaps all and any (De Morgan)."""
    inner = negate != (group.kind == "none_of")
    conjunction = (group.kind == "all_of") != inner
    parts = [_compile(member, numbers, negate=inner) for member in group.members]
    if not parts:
        return f"({TRUE if conjunction else FALSE})"
    return "(" + (" and " if conjunction else " or ").join(parts) + ")"


def _comparison(condition: Number | Geo, number: int, *, negate: bool) -> str:
    if isinstance(condition, Geo):
        return _circle(condition, number, ">" if negate else "<=")
    values = [literal(value) for value in condition.values]
    if condition.op == "between":
        if negate:
            return f"(.n{number} < {values[0]} or .n{number} > {values[1]})"
        return f"(.n{number} >= {values[0]} and .n{number} <= {values[1]})"
    if condition.op == "in":
        operator, joined = ("!=", " and ") if negate else ("==", " or ")
        return "(" + joined.join(f".n{number} {operator} {value}" for value in values) + ")"
    operator = (_OPPOSITE if negate else _OPERATORS)[condition.op]
    return f".n{number} {operator} {values[0]}"


def _circle(condition: Geo, number: int, operator: str) -> str:
    axes = zip("xyz", condition.centre.unit(), strict=True)
    squares = " + ".join(f"(.{axis}{number} - {literal(value)}) ** 2" for axis, value in axes)
    return f"{squares} {operator} {literal(condition.chord_squared())}"


def literal(value: float) -> str:
    """Return a number as the dialect reads it, exactly.

    It reads no exponents and no long literals, so those become an integer times powers of two.
    """
    text = repr(value)
    if "e" not in text and len(text) <= _LITERAL:
        return text if value >= 0 else f"(0 - {text[1:]})"
    mantissa, exponent = math.frexp(abs(value))
    # Two powers, since one alone would leave the range of doubles.
    half = (exponent - 53) // 2
    powers = f"2 ** {_integer(half)} * 2 ** {_integer(exponent - 53 - half)}"
    whole = f"({int(mantissa * 2**53)} * {powers})"
    return whole if value >= 0 else f"(0 - {whole})"


def _integer(value: int) -> str:
    return str(value) if value >= 0 else f"(0 - {-value})"
