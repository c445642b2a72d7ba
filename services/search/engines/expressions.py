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
from collections.abc import Mapping, Sequence

from services.search.filters import Condition, Exists, Geo, Group, Number, Place, Tag, Value, words

_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_OPPOSITE = {"eq": "!=", "ne": "==", "lt": ">=", "le": ">", "gt": "<=", "ge": "<"}
_LITERAL = 20
_TOKEN_BYTES = 32
TRUE, FALSE = "1 == 1", "1 == 0"


def attributes(fields: Mapping[str, Value], declared: Sequence[str], expires: int) -> str:
    """Return a document's attributes as JSON; ``expires`` is in ms since 1970, 0 for never."""
    found: dict[str, object] = {"e": expires}
    for number, name in enumerate(declared):
        value = fields.get(name)
        found[f"h{number}"] = int(value is not None)
        if isinstance(value, Place):
            found |= zip((f"x{number}", f"y{number}", f"z{number}"), value.unit(), strict=True)
        elif isinstance(value, float):
            found[f"n{number}"] = value
        else:
            found[f"t{number}"] = _tokens(value)
    return json.dumps(found | _absent(fields, declared), separators=(",", ":"))


def _absent(fields: Mapping[str, Value], declared: Sequence[str]) -> dict[str, object]:
    absent: dict[str, object] = {}
    for number, name in enumerate(declared):
        if name not in fields:
            absent |= dict.fromkeys((f"n{number}", f"x{number}", f"y{number}", f"z{number}"), 0)
    return absent


def _tokens(value: Value | None) -> list[str]:
    """Return the tokens of tags, and of the words that a text would have."""
    if value is None:
        return ["-"]
    tags = (value,) if isinstance(value, str) else value
    tokens = {_token(f"={tag}") for tag in tags}  # type: ignore[union-attr]
    if isinstance(value, str):
        tokens |= {_token(word) for word in words(value)}
    return ["-", *sorted(tokens)]


def _token(text: str) -> str:
    data = text.encode()
    if len(data) > _TOKEN_BYTES:
        return "s" + hashlib.sha256(data).hexdigest()
    return "x" + data.hex()


def compile_filter(condition: Condition, declared: Sequence[str]) -> str:
    """Return the expression of a checked condition."""
    numbers = {name: number for number, name in enumerate(declared)}
    return _compile(condition, numbers, negate=False)


def _compile(condition: Condition, numbers: Mapping[str, int], *, negate: bool) -> str:
    if isinstance(condition, Group):
        inner = negate != (condition.kind == "none_of")
        # none_of is "not any of"; a negation turns "all" to "any" and back (De Morgan).
        conjunction = (condition.kind == "all_of") != inner
        parts = [_compile(member, numbers, negate=inner) for member in condition.members]
        if not parts:
            return TRUE if conjunction else FALSE
        return "(" + (" and " if conjunction else " or ").join(parts) + ")"
    number = numbers[condition.field]
    if isinstance(condition, Exists):
        return f".h{number} == {int(not negate)}"
    if negate:
        return f"(.h{number} == 0 or {_leaf(condition, number, negate=True)})"
    return f"(.h{number} == 1 and {_leaf(condition, number, negate=False)})"


def _leaf(condition: Condition, number: int, *, negate: bool) -> str:
    if isinstance(condition, Geo):
        return _circle(condition, number, ">" if negate else "<=")
    if isinstance(condition, Number):
        return _number(condition, number, negate=negate)
    if isinstance(condition, Tag):
        tokens, joined = [f"={tag}" for tag in condition.tags], " or "
    else:
        tokens, joined = words(condition.matches), " and "  # type: ignore[union-attr]
    found = joined.join(f'"{_token(token)}" in .t{number}' for token in tokens)
    return f"not ({found})" if negate else f"({found})"


def _number(condition: Number, number: int, *, negate: bool) -> str:
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

    It reads no exponents and no long literals, so those become an integer times a power of two.
    """
    text = repr(value)
    if "e" not in text and len(text) <= _LITERAL:
        return text if value >= 0 else f"(0 - {text[1:]})"
    mantissa, exponent = math.frexp(abs(value))
    whole = f"({int(mantissa * 2**53)} * 2 ** {_integer(exponent - 53)})"
    return whole if value >= 0 else f"(0 - {whole})"


def _integer(value: int) -> str:
    return str(value) if value >= 0 else f"(0 - {-value})"
