"""Documents and the filter tree as the Query Engine has them (FT.CREATE, FT.SEARCH, dialect 2).

Besides what every document's hash holds, it has, for the declared field number ``i``: ``n<i>``
the names of the fields that have a value and ``all``; ``e``, the end in ms, 0 for never. What is
missing is simply not there: a condition on it is false, and a negation is "all, but those".
Syntax: https://redis.io/docs/latest/develop/ai/search-and-query/advanced-concepts/query_syntax/
"""

import time
from collections.abc import Mapping
from typing import Any

from services.search.engines.vector_sets.filter import Declared, tokens
from services.search.filters import Condition, Exists, Geo, Group, Number, Place, Tag, Value

ALL, NONE = "@h:{all}", "@h:{none}"
# Leaves of a filter add nothing to the score of words.
_SILENT = "=>{$weight: 0}"
# A box that is sure to hold what float64 says lies in a circle.
_SLACK = 1e-9


def hash_fields(fields: Mapping[str, Value], declared: Declared, expires: int) -> list[Any]:
    """Return the hash fields to filter a document by, names and values in turn."""
    present = ["all"]
    found: list[Any] = ["e", expires]
    for number, (name, kind) in enumerate(declared.items()):
        value = fields.get(name)
        if value is None:
            continue
        present.append(f"h{number}")
        if isinstance(value, float):
            found += [f"n{number}", repr(value)]
        elif isinstance(value, Place):
            for axis, part in zip("xyz", value.unit(), strict=True):
                found += [f"{axis}{number}", repr(part)]
        else:
            found += [f"t{number}", ",".join(sorted(tokens(value, kind)))]
    return [*found, "h", ",".join(present)]


def attributes(declared: Declared, *, words: bool) -> list[str]:
    """Return the part of a schema that declares such fields."""
    schema = ["h", "TAG", "e", "NUMERIC"]
    if words:
        schema += ["s", "TEXT", "NOSTEM"]
    for number, kind in enumerate(declared.values()):
        if kind == "number":
            schema += [f"n{number}", "NUMERIC"]
        elif kind == "geo":
            schema += [part for axis in "xyz" for part in (f"{axis}{number}", "NUMERIC")]
        else:
            schema += [f"t{number}", "TAG"]
    return schema


def is_loose(condition: Condition | None) -> bool:
    """Say whether the expression lets through more than the condition: circles are boxes in it."""
    if isinstance(condition, Group):
        return any(is_loose(member) for member in condition.members)
    return isinstance(condition, Geo)


def compile_filter(condition: Condition | None, declared: Declared, *, expiring: bool) -> str:
    """Return the expression of a checked condition; empty if every document meets it."""
    parts = []
    if condition:
        numbers = {name: number for number, name in enumerate(declared)}
        parts.append(_compile(condition, numbers, negate=False))
    if expiring:
        parts.append(f"(({_leaf('@e:[0 0]')}) | ({_leaf(f'@e:[({int(time.time() * 1000)} inf]')}))")
    return "(" + " ".join(parts) + ")" if parts else ""


def _compile(condition: Condition, numbers: Mapping[str, int], *, negate: bool) -> str:
    if isinstance(condition, Group):
        return _group(condition, numbers, negate=negate)
    number = numbers[condition.field]
    if isinstance(condition, Geo):
        return _circle(condition, number, negate=negate)
    if isinstance(condition, Exists):
        found = _leaf(f"@h:{{h{number}}}")
    elif isinstance(condition, Number):
        found = _compare(condition, number)
    else:
        kind, value = (
            ("tag", condition.tags) if isinstance(condition, Tag) else ("text", condition.matches)
        )
        sought = sorted(tokens(value, kind))
        if kind == "tag":
            found = _leaf(f"@t{number}:{{{'|'.join(sought)}}}")
        else:
            found = "(" + " ".join(_leaf(f"@t{number}:{{{token}}}") for token in sought) + ")"
    return f"({_leaf(ALL)} -{found})" if negate else found


def _leaf(expression: str) -> str:
    return f"({expression}){_SILENT}"


def _group(group: Group, numbers: Mapping[str, int], *, negate: bool) -> str:
    """Join the members; none_of is "not any of", and a negation swaps all and any (De Morgan)."""
    inner = negate != (group.kind == "none_of")
    conjunction = (group.kind == "all_of") != inner
    parts = [_compile(member, numbers, negate=inner) for member in group.members]
    if not parts:
        return _leaf(ALL if conjunction else NONE)
    # The deepest first: the parser of the server keeps what stands to the left of it on a stack.
    parts.sort(key=lambda part: -part.count("("))
    return "(" + (" " if conjunction else " | ").join(parts) + ")"


def _compare(condition: Number, number: int) -> str:
    values = [repr(value) for value in condition.values]
    first = values[0]
    if condition.op == "in":
        return "(" + " | ".join(_range(number, value, value) for value in values) + ")"
    if condition.op == "ne":
        return f"({_leaf(f'@h:{{h{number}}}')} -{_range(number, first, first)})"
    least, most = {
        "eq": (first, first),
        "lt": ("-inf", f"({first}"),
        "le": ("-inf", first),
        "gt": (f"({first}", "inf"),
        "ge": (first, "inf"),
        "between": (first, values[-1]),
    }[condition.op]
    return _range(number, least, most)


def _range(number: int, least: str, most: str) -> str:
    return _leaf(f"@n{number}:[{least} {most}]")


def _circle(condition: Geo, number: int, *, negate: bool) -> str:
    """Return the box around a circle; negated, all but the box that lies within it."""
    chord = condition.chord_squared() ** 0.5
    half = chord / 3**0.5 - _SLACK if negate else chord + _SLACK
    if half <= 0:
        return _leaf(ALL)
    box = " ".join(
        _leaf(f"@{axis}{number}:[{value - half!r} {value + half!r}]")
        for axis, value in zip("xyz", condition.centre.unit(), strict=True)
    )
    return f"({_leaf(ALL)} -({box}))" if negate else f"({box})"
