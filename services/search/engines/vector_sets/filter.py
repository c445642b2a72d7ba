"""Compiles filters to the expressions of vector sets (VSIM … FILTER).

The attributes of every document have, for the declared field number ``i``, ``h<i>``: 1 if the field
has a value, and 0 otherwise; and the value, as ``n<i>``, a number, ``t<i>``, the tokens of tags or
words, or ``x<i>``, ``y<i>``, ``z<i>``, a unit vector. A field without a value has a placeholder,
because an expression drops an element that lacks an attribute, whatever the operator. Negations are
pushed down to the comparisons.
Syntax: https://redis.io/docs/latest/develop/data-types/vector-sets/filtered-search/
"""

import json
import math
import time
from collections.abc import Mapping

from services.search.engines.filter_tokens import (
    FieldTypes,
    field_numbers,
    field_tokens,
    query_tokens,
    tag_tokens,
)
from services.search.filters import (
    Condition,
    ConditionGroup,
    ExistsCondition,
    GeoCondition,
    GeoPoint,
    NumberCondition,
    TagCondition,
    Value,
)

_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_NEGATED_OPERATORS = {"eq": "!=", "ne": "==", "lt": ">=", "le": ">", "gt": "<=", "ge": "<"}
_MAX_LITERAL_LENGTH = 20
# Keeps the list of tokens from being empty, because ``in`` needs a list with an element.
_PLACEHOLDER = "-"
_TRUE, _FALSE = "1 == 1", "1 == 0"


def dump_attributes(fields: Mapping[str, Value], declared: FieldTypes, expires_at_ms: int) -> str:
    """Return a document's attributes as JSON; ``expires_at_ms`` is 0 for never."""
    attributes: dict[str, object] = {"e": expires_at_ms}
    for number, (name, field_type) in enumerate(declared.items()):
        value = fields.get(name)
        attributes[f"h{number}"] = int(value is not None)
        if field_type == "number":
            attributes[f"n{number}"] = value or 0
        elif field_type == "geo":
            axes = value.unit_vector() if isinstance(value, GeoPoint) else (0, 0, 0)
            attributes |= zip((f"x{number}", f"y{number}", f"z{number}"), axes, strict=True)
        else:
            attributes[f"t{number}"] = [_PLACEHOLDER, *field_tokens(value, field_type)]
    return json.dumps(attributes, separators=(",", ":"))


def compile_filter(condition: Condition | None, declared: FieldTypes, *, expiring: bool) -> str:
    """Return the expression of a checked condition; empty if every document matches it.

    With ``expiring``, expired documents never match it.
    """
    parts = []
    if condition:
        parts.append(_compile(condition, field_numbers(declared), negate=False))
    if expiring:
        parts.append(f"(.e == 0 or .e > {int(time.time() * 1000)})")
    return " and ".join(parts)


def _compile(condition: Condition, numbers: Mapping[str, int], *, negate: bool) -> str:
    if isinstance(condition, ConditionGroup):
        return _compile_group(condition, numbers, negate=negate)
    number = numbers[condition.field]
    if isinstance(condition, ExistsCondition):
        return f"(.h{number} == {int(not negate)})"
    if isinstance(condition, NumberCondition | GeoCondition):  # the placeholder of both is 0
        comparison = _comparison(condition, number, negate=negate)
        return f"(.h{number} == {'0 or' if negate else '1 and'} {comparison})"
    if isinstance(condition, TagCondition):
        tokens, operator = tag_tokens(condition.tags), " or "
    else:
        tokens, operator = query_tokens(condition.matches), " and "
    found = operator.join(f'"{token}" in .t{number}' for token in tokens)
    return f"(not ({found}))" if negate else f"({found})"


def _compile_group(group: ConditionGroup, numbers: Mapping[str, int], *, negate: bool) -> str:
    """Join the members; none_of is "not any_of", and a negation swaps all and any (De Morgan)."""
    negate_members = negate != (group.kind == "none_of")
    is_conjunction = (group.kind == "all_of") != negate_members
    parts = [_compile(member, numbers, negate=negate_members) for member in group.members]
    if not parts:
        return f"({_TRUE if is_conjunction else _FALSE})"
    return "(" + (" and " if is_conjunction else " or ").join(parts) + ")"


def _comparison(condition: NumberCondition | GeoCondition, number: int, *, negate: bool) -> str:
    if isinstance(condition, GeoCondition):
        return _circle(condition, number, ">" if negate else "<=")
    values = [number_literal(value) for value in condition.values]
    if condition.op == "between":
        if negate:
            return f"(.n{number} < {values[0]} or .n{number} > {values[1]})"
        return f"(.n{number} >= {values[0]} and .n{number} <= {values[1]})"
    if condition.op == "in":
        operator, joined = ("!=", " and ") if negate else ("==", " or ")
        return "(" + joined.join(f".n{number} {operator} {value}" for value in values) + ")"
    operator = (_NEGATED_OPERATORS if negate else _OPERATORS)[condition.op]
    return f".n{number} {operator} {values[0]}"


def _circle(condition: GeoCondition, number: int, operator: str) -> str:
    axes = zip("xyz", condition.centre.unit_vector(), strict=True)
    squares = " + ".join(
        f"(.{axis}{number} - {number_literal(value)}) ** 2" for axis, value in axes
    )
    return f"{squares} {operator} {number_literal(condition.chord_squared())}"


def number_literal(value: float) -> str:
    """Return a number exactly, in a form that the expression parser accepts.

    The parser knows no exponents and no long literals, so such numbers become an integer times
    powers of two.
    """
    text = repr(value)
    if "e" not in text and len(text) <= _MAX_LITERAL_LENGTH:
        return text if value >= 0 else f"(0 - {text[1:]})"
    mantissa, exponent = math.frexp(abs(value))
    # Two powers, because a single one would exceed the range of a double.
    half = (exponent - 53) // 2
    powers = f"2 ** {_integer(half)} * 2 ** {_integer(exponent - 53 - half)}"
    literal = f"({int(mantissa * 2**53)} * {powers})"
    return literal if value >= 0 else f"(0 - {literal})"


def _integer(value: int) -> str:
    return str(value) if value >= 0 else f"(0 - {-value})"
