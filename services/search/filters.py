"""The typed filter tree and its meaning, in plain Python.

A condition on a missing field is false and its negation is true, at any depth. Each engine compiles
the tree to its own query language; ``holds`` defines the correct result.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.errors import InvalidArgument
from services.words import query_words, words

EARTH_RADIUS_M = 6_371_008.8
MAX_DEPTH = 32
MAX_CONDITIONS = 2_000
# Number of values that each operator takes; None for one or more.
_OPERATOR_VALUES = {
    "eq": 1,
    "ne": 1,
    "lt": 1,
    "le": 1,
    "gt": 1,
    "ge": 1,
    "between": 2,
    "in": None,
}


@dataclass(frozen=True)
class GeoPoint:
    """A point on the earth; ``lat`` and ``lon`` are degrees."""

    lat: float
    lon: float

    def is_on_earth(self) -> bool:
        """Return whether latitude and longitude are in range."""
        return abs(self.lat) <= 90 and abs(self.lon) <= 180  # noqa: PLR2004

    def unit_vector(self) -> tuple[float, float, float]:
        """Return the point as a unit vector from the centre of the earth."""
        lat, lon = math.radians(self.lat), math.radians(self.lon)
        return (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))


Value = float | str | tuple[str, ...] | GeoPoint


@dataclass(frozen=True)
class NumberCondition:
    """Compares a number; ``op`` is eq, ne, lt, le, gt, ge, between or in."""

    field: str
    op: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class TagCondition:
    """Holds if the field has at least one of the tags."""

    field: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class TextCondition:
    """Holds if the field contains all words of ``matches``."""

    field: str
    matches: str


@dataclass(frozen=True)
class GeoCondition:
    """Holds if the field lies in a circle; ``radius_m`` is metres."""

    field: str
    centre: GeoPoint
    radius_m: float

    def chord_squared(self) -> float:
        """Return the squared chord length of the radius on the unit sphere."""
        angle = min(self.radius_m / EARTH_RADIUS_M, math.pi)
        return (2 * math.sin(angle / 2)) ** 2


@dataclass(frozen=True)
class ExistsCondition:
    """Holds if the field has a value."""

    field: str


@dataclass(frozen=True)
class ConditionGroup:
    """Combines conditions; ``kind`` is all_of, any_of or none_of."""

    kind: str
    members: tuple["Condition", ...]


LeafCondition = NumberCondition | TagCondition | TextCondition | GeoCondition | ExistsCondition
Condition = LeafCondition | ConditionGroup
_FIELD_TYPES = {
    NumberCondition: "number",
    TagCondition: "tag",
    TextCondition: "text",
    GeoCondition: "geo",
}


def check_filter(condition: Condition, fields: Mapping[str, str], path: str) -> None:
    """Check that a filter names declared fields, uses them by their types, and is not too large.

    Args:
        condition: the filter.
        fields: type of each declared field.
        path: path of the filter in the request.

    Raises:
        InvalidArgument: the filter is not valid.
    """
    if _count(condition, 0, path) > MAX_CONDITIONS:
        raise InvalidArgument(
            "FILTER_TOO_LARGE", f"A filter can have up to {MAX_CONDITIONS} conditions.", field=path
        )
    _check(condition, fields, path)


def _count(condition: Condition, depth: int, path: str) -> int:
    if depth > MAX_DEPTH:
        raise InvalidArgument(
            "FILTER_TOO_DEEP", f"A filter can be nested up to {MAX_DEPTH} levels deep.", field=path
        )
    if isinstance(condition, ConditionGroup):
        return 1 + sum(_count(member, depth + 1, path) for member in condition.members)
    return 1 + len(getattr(condition, "values", ())) + len(getattr(condition, "tags", ()))


def _check(condition: Condition, fields: Mapping[str, str], path: str) -> None:
    if isinstance(condition, ConditionGroup):
        for member in condition.members:
            _check(member, fields, path)
        return
    declared = fields.get(condition.field)
    if declared is None:
        raise InvalidArgument(
            "UNDECLARED_FIELD",
            "The filter names a field that the collection does not declare.",
            field=path,
            name=condition.field,
        )
    required = _FIELD_TYPES.get(type(condition), declared)
    if declared != required:
        raise InvalidArgument(
            "WRONG_FIELD_TYPE",
            f"This condition needs a field of type {required.upper()}.",
            field=path,
            name=condition.field,
            type=declared,
        )
    problem = _problem(condition)
    if problem:
        raise InvalidArgument("BAD_CONDITION", problem, field=path, name=condition.field)


def _problem(condition: LeafCondition) -> str:
    """Return the problem of a condition; empty for a valid condition."""
    if isinstance(condition, NumberCondition):
        count = _OPERATOR_VALUES[condition.op]
        if not condition.values or (count and len(condition.values) != count):
            expected = {1: "one value", 2: "two values"}.get(count or 0, "one or more values")
            return f"The operator {condition.op.upper()} takes {expected}."
        return "" if all(map(math.isfinite, condition.values)) else "A value is NaN or infinity."
    if isinstance(condition, TagCondition):
        return "" if condition.tags else "The condition needs at least one tag."
    if isinstance(condition, TextCondition):
        return "" if query_words(condition.matches) else "The condition needs at least one word."
    return _circle_problem(condition) if isinstance(condition, GeoCondition) else ""


def _circle_problem(circle: GeoCondition) -> str:
    if not circle.centre.is_on_earth():
        return "The centre needs a latitude of -90 to 90 and a longitude of -180 to 180 degrees."
    return "" if 0 <= circle.radius_m < math.inf else "The radius must be 0 metres or more."


def holds(condition: Condition, fields: Mapping[str, Value]) -> bool:
    """Return whether a document with these fields matches the condition."""
    if isinstance(condition, ConditionGroup):
        outcomes = [holds(member, fields) for member in condition.members]
        if condition.kind == "all_of":
            return all(outcomes)
        return any(outcomes) == (condition.kind == "any_of")
    value = fields.get(condition.field)
    if value is None:
        return False
    return isinstance(condition, ExistsCondition) or _leaf_holds(condition, value)


def _leaf_holds(
    condition: NumberCondition | TagCondition | TextCondition | GeoCondition, value: Value
) -> bool:
    if isinstance(condition, TagCondition):
        return bool(set(condition.tags) & set((value,) if isinstance(value, str) else value))  # type: ignore[arg-type]
    if isinstance(condition, TextCondition):
        return set(query_words(condition.matches)) <= set(words(str(value)))
    if isinstance(condition, GeoCondition) and isinstance(value, GeoPoint):
        pairs = zip(condition.centre.unit_vector(), value.unit_vector(), strict=True)
        return sum((a - b) ** 2 for a, b in pairs) <= condition.chord_squared()
    if isinstance(condition, NumberCondition) and isinstance(value, float):
        return _number_holds(condition, value)
    return False


def _number_holds(condition: NumberCondition, value: float) -> bool:
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
