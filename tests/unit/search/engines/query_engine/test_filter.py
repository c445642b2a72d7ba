"""The filter tree in the Query Engine's dialect."""

import re

import pytest

from services.search.engines.query_engine.filter import (
    compile_filter,
    dump_hash_fields,
    is_loose,
    schema,
)
from services.search.filters import (
    Condition,
    ConditionGroup,
    ExistsCondition,
    GeoCondition,
    GeoPoint,
    NumberCondition,
    TagCondition,
    TextCondition,
)

FIELDS = {"year": "number", "kind": "tag", "story": "text", "place": "geo"}
HOSTILE = ['"', "}", "{a|b}", "a,b", "-", "\\", "\x1f", "@h:{all}", "ä ö", "x" * 10_000, "'; --"]


def test_hash_fields_name_the_fields_with_a_value() -> None:
    found = dump_hash_fields({"year": 1.5, "place": GeoPoint(0, 0)}, FIELDS, 7)
    pairs = dict(zip(found[::2], found[1::2], strict=True))
    assert pairs == {
        "e": 7,
        "n0": "1.5",
        "x3": "1.0",
        "y3": "0.0",
        "z3": "0.0",
        "h": "all,h0,h3",
    }


def test_more_fields_make_a_longer_schema_with_the_same_beginning() -> None:
    few = schema({"year": "number"}, index_text=True)
    many = schema({"year": "number", "kind": "tag"}, index_text=True)
    assert many[: len(few)] == few
    assert many[len(few) :] == ["t1", "TAG"]


@pytest.mark.parametrize("value", HOSTILE)
def test_values_of_callers_appear_as_tokens_only(value: str) -> None:
    for condition in (TagCondition("kind", (value,)), TextCondition("story", value + " a")):
        expression = compile_filter(condition, FIELDS, expiring=False)
        tokens = re.findall(r"@t\d:\{([^}]*)\}", expression)
        assert tokens
        assert all(re.fullmatch(r"[0-9a-z|]+", token) for token in tokens)
        rest = re.sub(r"@t\d:\{[0-9a-z|]+\}", "", expression)
        assert re.fullmatch(r"[ ()=>{}$weight:0]*", rest), rest


def test_only_circles_are_loose() -> None:
    circle: Condition = GeoCondition("place", GeoPoint(0, 0), 10.0)
    exact: Condition = NumberCondition("year", "eq", (1.0,))
    assert is_loose(circle)
    assert is_loose(ConditionGroup("none_of", (ConditionGroup("all_of", (exact, circle)),)))
    assert not is_loose(ConditionGroup("any_of", (exact, ExistsCondition("kind"))))
    assert not is_loose(None)


def test_expired_documents_never_match() -> None:
    assert compile_filter(None, FIELDS, expiring=False) == ""
    assert "@e:[0 0]" in compile_filter(None, FIELDS, expiring=True)


def test_empty_groups_follow_logic() -> None:
    """An empty all_of matches every document, and an empty any_of none."""
    every = compile_filter(ConditionGroup("all_of", ()), FIELDS, expiring=False)
    none = compile_filter(ConditionGroup("any_of", ()), FIELDS, expiring=False)
    assert "@h:{all}" in every
    assert "@h:{none}" in none
    assert compile_filter(ConditionGroup("none_of", ()), FIELDS, expiring=False) == every


@pytest.mark.parametrize(
    ("op", "values", "range_"),
    [
        ("eq", (1.5,), "[1.5 1.5]"),
        ("lt", (1.5,), "[-inf (1.5]"),
        ("le", (1.5,), "[-inf 1.5]"),
        ("gt", (1.5,), "[(1.5 inf]"),
        ("ge", (1.5,), "[1.5 inf]"),
        ("between", (1.5, 2.0), "[1.5 2.0]"),
    ],
)
def test_numbers_become_ranges(op: str, values: tuple[float, ...], range_: str) -> None:
    condition = NumberCondition("year", op, values)
    expected = f"((@n0:{range_})=>{{$weight: 0}})"
    assert compile_filter(condition, FIELDS, expiring=False) == expected


def test_a_negation_needs_a_value_only_where_the_condition_does() -> None:
    """A document without the field matches "none of year = 1", but not "year != 1"."""
    year = NumberCondition("year", "eq", (1.0,))
    negated = compile_filter(ConditionGroup("none_of", (year,)), FIELDS, expiring=False)
    unequal = compile_filter(NumberCondition("year", "ne", (1.0,)), FIELDS, expiring=False)
    assert "@h:{all}" in negated
    assert "@h:{h0}" in unequal


def test_the_box_of_a_circle_contains_it_and_the_negated_box_lies_within() -> None:
    centre = GeoPoint(10, 20)
    circle = GeoCondition("place", centre, 100_000.0)
    outer = compile_filter(circle, FIELDS, expiring=False)
    inner = compile_filter(ConditionGroup("none_of", (circle,)), FIELDS, expiring=False)
    widths = []
    for expression in (outer, inner):
        low, high = re.findall(r"@x3:\[(\S+) (\S+)\]", expression)[0]
        assert float(low) < centre.unit_vector()[0] < float(high)
        widths.append(float(high) - float(low))
    chord = circle.chord_squared() ** 0.5
    assert widths[0] / 2 >= chord
    assert widths[1] / 2 <= chord / 3**0.5


def test_deeply_nested_members_come_first() -> None:
    shallow = ExistsCondition("year")
    deep = ConditionGroup("any_of", (ConditionGroup("all_of", (shallow, shallow)), shallow))
    expression = compile_filter(ConditionGroup("all_of", (shallow, deep)), FIELDS, expiring=False)
    assert expression.startswith("((((")
