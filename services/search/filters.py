"""The typed filter tree: what it means, in plain Python.

A condition on a missing field is false, and its negation true, at any nesting. Engines compile the
same tree to their own dialects; ``holds`` is what they are compared with.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.errors import InvalidArgument

EARTH_RADIUS_M = 6_371_008.8
DEPTH_LIMIT = 32
NODES_LIMIT = 2_000
_WORD = re.compile(r"\w+")
# field type that each kind of condition needs
_OPERATORS = {"eq": 1, "ne": 1, "lt": 1, "le": 1, "gt": 1, "ge": 1, "between": 2, "in": None}


@dataclass(frozen=True)
class Place:
    """A place on the earth, in degrees."""

    lat: float
    lon: float

    def is_on_earth(self) -> bool:
        """Say whether both lie in their range."""
        return abs(self.lat) <= 90 and abs(self.lon) <= 180  # noqa: PLR2004

    def unit(self) -> tuple[float, float, float]:
        """Return the place as a vector of length 1 from the centre of a sphere."""
        lat, lon = math.radians(self.lat), math.radians(self.lon)
        return (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))


Value = float | str | tuple[str, ...] | Place


@dataclass(frozen=True)
class Number:
    """Compares a number; ``op`` is eq, ne, lt, le, gt, ge, between or in."""

    field: str
    op: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Tag:
    """Holds when the field has one of the tags."""

    field: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """Holds when the field has all of the words."""

    field: str
    matches: str


@dataclass(frozen=True)
class Geo:
    """Holds when the field lies in a circle."""

    field: str
    centre: Place
    radius_m: float

    def chord_squared(self) -> float:
        """Return the squared chord of the radius on a sphere of radius 1."""
        angle = min(self.radius_m / EARTH_RADIUS_M, math.pi)
        return (2 * math.sin(angle / 2)) ** 2


@dataclass(frozen=True)
class Exists:
    """Holds when the field has a value."""

    field: str


@dataclass(frozen=True)
class Group:
    """Joins conditions; ``kind`` is all_of, any_of or none_of."""

    kind: str
    members: tuple["Condition", ...]


Condition = Number | Tag | Text | Geo | Exists | Group
_NEEDS = {Number: "number", Tag: "tag", Text: "text", Geo: "geo"}


def words(text: str) -> list[str]:
    """Return the words of a text as they are compared."""
    return _WORD.findall(text.casefold())


def check(condition: Condition, fields: Mapping[str, str], place: str) -> None:
    """Refuse a tree that names undeclared fields, misuses one, or is too large.

    Raises:
        InvalidArgument: with ``place`` as the field to blame.
    """
    if _count(condition, 0, place) > NODES_LIMIT:
        raise InvalidArgument(
            "FILTER_TOO_LARGE", f"A filter has at most {NODES_LIMIT} conditions.", field=place
        )
    _check(condition, fields, place)


def _count(condition: Condition, depth: int, place: str) -> int:
    if depth > DEPTH_LIMIT:
        raise InvalidArgument(
            "FILTER_TOO_DEEP", f"A filter nests at most {DEPTH_LIMIT} deep.", field=place
        )
    if isinstance(condition, Group):
        return 1 + sum(_count(member, depth + 1, place) for member in condition.members)
    return 1 + len(getattr(condition, "values", ())) + len(getattr(condition, "tags", ()))


def _check(condition: Condition, fields: Mapping[str, str], place: str) -> None:
    if isinstance(condition, Group):
        for member in condition.members:
            _check(member, fields, place)
        return
    kind = fields.get(condition.field)
    if kind is None:
        raise InvalidArgument(
            "UNDECLARED_FIELD",
            "The filter names a field that the collection does not declare.",
            field=place,
            name=condition.field,
        )
    needed = _NEEDS.get(type(condition), kind)
    if kind != needed:
        raise InvalidArgument(
            "WRONG_FIELD_TYPE",
            f"This condition needs a {needed.upper()} field.",
            field=place,
            name=condition.field,
            type=kind,
        )
    problem = _problem(condition)
    if problem:
        raise InvalidArgument("BAD_CONDITION", problem, field=place, name=condition.field)


def _problem(condition: Condition) -> str:
    if isinstance(condition, Number):
        count = _OPERATORS[condition.op]
        if not condition.values or (count and len(condition.values) != count):
            return f"The operator {condition.op.upper()} takes {count or 'one or more'} values."
        return "" if all(map(math.isfinite, condition.values)) else "A value is NaN or infinity."
    if isinstance(condition, Tag):
        return "" if condition.tags else "No tags are named."
    if isinstance(condition, Text):
        return "" if words(condition.matches) else "No words are named."
    return _circle_problem(condition) if isinstance(condition, Geo) else ""


def _circle_problem(circle: Geo) -> str:
    if not circle.centre.is_on_earth():
        return "The centre is not on the earth."
    return "" if 0 <= circle.radius_m < math.inf else "The radius is 0 metres or more."


def holds(condition: Condition, fields: Mapping[str, Value]) -> bool:
    """Say whether a document with these fields meets the condition."""
    if isinstance(condition, Group):
        outcomes = [holds(member, fields) for member in condition.members]
        return {"all_of": all, "any_of": any}.get(condition.kind, _none)(outcomes)
    value = fields.get(condition.field)
    if value is None:
        return False
    if isinstance(condition, Exists):
        return True
    return _leaf_holds(condition, value)


def _none(outcomes: list[bool]) -> bool:
    return not any(outcomes)


def _leaf_holds(condition: Number | Tag | Text | Geo, value: Value) -> bool:
    if isinstance(condition, Tag):
        return bool(set(condition.tags) & set((value,) if isinstance(value, str) else value))  # type: ignore[arg-type]
    if isinstance(condition, Text):
        return set(words(condition.matches)) <= set(words(str(value)))
    if isinstance(condition, Geo) and isinstance(value, Place):
        pairs = zip(condition.centre.unit(), value.unit(), strict=True)
        return sum((a - b) ** 2 for a, b in pairs) <= condition.chord_squared()
    if isinstance(condition, Number) and isinstance(value, float):
        return compare(condition, value)
    return False


def compare(condition: Number, value: float) -> bool:
    """Say whether a number meets the condition."""
    first, last = condition.values[0], condition.values[-1]
    return {
        "eq": value == first,
        "ne": value != first,
        "lt": value < first,
        "le": value <= first,
        "gt": value > first,
        "ge": value >= first,
        "between": first <= value <= last,
        "in": value in condition.values,
    }[condition.op]
