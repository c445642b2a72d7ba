"""Compiles filters to queries of the Query Engine (FT.CREATE, FT.SEARCH, dialect 2).

The hash of every document has, for the declared field number ``i``, ``n<i>``, ``t<i>`` or ``x<i>``,
``y<i>``, ``z<i>``, as in vector sets; ``h``, the tags ``h<i>`` of the fields that have a value, and
``all``; and ``e``, the expiry in ms, 0 for never. A field without a value is absent, so a condition
on it is false; a negation means "all documents except these".
Syntax: https://redis.io/docs/latest/develop/ai/search-and-query/advanced-concepts/query_syntax/
"""

import time
from collections.abc import Mapping
from typing import Any

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

ALL, NONE = "@h:{all}", "@h:{none}"
# Conditions of a filter must not add to the score of a text query.
_UNSCORED = "=>{$weight: 0}"
# Makes sure that a box contains what float64 places in its circle.
_BOX_MARGIN = 1e-9


def dump_hash_fields(
    fields: Mapping[str, Value], declared: FieldTypes, expires_at_ms: int
) -> list[Any]:
    """Return the hash fields to filter a document by, as alternating names and values."""
    present = ["all"]
    pairs: list[Any] = ["e", expires_at_ms]
    for number, (name, field_type) in enumerate(declared.items()):
        value = fields.get(name)
        if value is None:
            continue
        present.append(f"h{number}")
        if isinstance(value, float):
            pairs += [f"n{number}", repr(value)]
        elif isinstance(value, GeoPoint):
            for axis, coordinate in zip("xyz", value.unit_vector(), strict=True):
                pairs += [f"{axis}{number}", repr(coordinate)]
        else:
            pairs += [f"t{number}", ",".join(field_tokens(value, field_type))]
    return [*pairs, "h", ",".join(present)]


def schema(declared: FieldTypes, *, index_text: bool) -> list[str]:
    """Return the part of FT.CREATE's schema that declares these fields.

    More fields make a longer schema with the same beginning.
    """
    words = ["h", "TAG", "e", "NUMERIC"]
    if index_text:
        words += ["s", "TEXT", "NOSTEM"]
    for number, field_type in enumerate(declared.values()):
        words += hash_field_types(number, field_type)
    return words


def hash_field_types(number: int, field_type: str) -> list[str]:
    """Return the hash fields of one declared field, as alternating names and types."""
    if field_type == "number":
        return [f"n{number}", "NUMERIC"]
    if field_type == "geo":
        return [word for axis in "xyz" for word in (f"{axis}{number}", "NUMERIC")]
    return [f"t{number}", "TAG"]


def is_loose(condition: Condition | None) -> bool:
    """Return whether the query matches more than the condition, because circles become boxes."""
    if isinstance(condition, ConditionGroup):
        return any(is_loose(member) for member in condition.members)
    return isinstance(condition, GeoCondition)


def compile_filter(condition: Condition | None, declared: FieldTypes, *, expiring: bool) -> str:
    """Return the query of a checked condition; empty if every document matches it.

    With ``expiring``, expired documents never match it.
    """
    parts = []
    if condition:
        parts.append(_compile(condition, field_numbers(declared), negate=False))
    if expiring:
        later = f"@e:[({int(time.time() * 1000)} inf]"
        parts.append(f"(({_leaf('@e:[0 0]')}) | ({_leaf(later)}))")
    return "(" + " ".join(parts) + ")" if parts else ""


def _compile(condition: Condition, numbers: Mapping[str, int], *, negate: bool) -> str:
    if isinstance(condition, ConditionGroup):
        return _compile_group(condition, numbers, negate=negate)
    number = numbers[condition.field]
    if isinstance(condition, GeoCondition):
        return _circle(condition, number, negate=negate)
    if isinstance(condition, ExistsCondition):
        found = _leaf(f"@h:{{h{number}}}")
    elif isinstance(condition, NumberCondition):
        found = _comparison(condition, number)
    elif isinstance(condition, TagCondition):
        found = _leaf(f"@t{number}:{{{'|'.join(tag_tokens(condition.tags))}}}")
    else:
        tokens = query_tokens(condition.matches)
        found = "(" + " ".join(_leaf(f"@t{number}:{{{token}}}") for token in tokens) + ")"
    return f"({_leaf(ALL)} -{found})" if negate else found


def _leaf(expression: str) -> str:
    return f"({expression}){_UNSCORED}"


def _compile_group(group: ConditionGroup, numbers: Mapping[str, int], *, negate: bool) -> str:
    """Join the members; none_of is "not any_of", and a negation swaps all and any (De Morgan)."""
    negate_members = negate != (group.kind == "none_of")
    is_conjunction = (group.kind == "all_of") != negate_members
    parts = [_compile(member, numbers, negate=negate_members) for member in group.members]
    if not parts:
        return _leaf(ALL if is_conjunction else NONE)
    # The most deeply nested member comes first, because the parser keeps the preceding ones on a
    # stack.
    parts.sort(key=lambda part: -part.count("("))
    return "(" + (" " if is_conjunction else " | ").join(parts) + ")"


def _comparison(condition: NumberCondition, number: int) -> str:
    values = [repr(value) for value in condition.values]
    first = values[0]
    if condition.op == "in":
        return "(" + " | ".join(_range(number, value, value) for value in values) + ")"
    if condition.op == "ne":
        return f"({_leaf(f'@h:{{h{number}}}')} -{_range(number, first, first)})"
    low, high = {
        "eq": (first, first),
        "lt": ("-inf", f"({first}"),
        "le": ("-inf", first),
        "gt": (f"({first}", "inf"),
        "ge": (first, "inf"),
        "between": (first, values[-1]),
    }[condition.op]
    return _range(number, low, high)


def _range(number: int, low: str, high: str) -> str:
    return _leaf(f"@n{number}:[{low} {high}]")


def _circle(condition: GeoCondition, number: int, *, negate: bool) -> str:
    """Return the box around a circle; negated, everything outside the box within the circle."""
    chord = condition.chord_squared() ** 0.5
    half = chord / 3**0.5 - _BOX_MARGIN if negate else chord + _BOX_MARGIN
    if half <= 0:
        return _leaf(ALL)
    box = " ".join(
        _leaf(f"@{axis}{number}:[{value - half!r} {value + half!r}]")
        for axis, value in zip("xyz", condition.centre.unit_vector(), strict=True)
    )
    return f"({_leaf(ALL)} -({box}))" if negate else f"({box})"
