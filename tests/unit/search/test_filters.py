import pytest

from services.errors import InvalidArgument
from services.search.filters import (
    MAX_DEPTH,
    Condition,
    ConditionGroup,
    ExistsCondition,
    GeoCondition,
    GeoPoint,
    NumberCondition,
    TagCondition,
    TextCondition,
    Value,
    check_filter,
    holds,
)

FIELDS = {"n": "number", "t": "tag", "w": "text", "g": "geo"}
DOCUMENT: dict[str, Value] = {
    "n": 5.0,
    "t": ("a", "b"),
    "w": "The quick Fox",
    "g": GeoPoint(52.5, 13.4),
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (NumberCondition("n", "eq", (5.0,)), True),
        (NumberCondition("n", "ne", (5.0,)), False),
        (NumberCondition("n", "between", (5.0, 6.0)), True),
        (NumberCondition("n", "in", (1.0, 2.0)), False),
        (TagCondition("t", ("b", "x")), True),
        (TagCondition("t", ("A",)), False),
        (TextCondition("w", "fox QUICK"), True),
        (TextCondition("w", "dog"), False),
        (GeoCondition("g", GeoPoint(48.1, 11.6), 600_000.0), True),
        (GeoCondition("g", GeoPoint(48.1, 11.6), 400_000.0), False),
        (ExistsCondition("n"), True),
    ],
)
def test_a_condition_on_a_missing_field_is_false_and_its_negation_true(
    condition: Condition, expected: bool
) -> None:
    assert holds(condition, DOCUMENT) is expected
    assert holds(ConditionGroup("none_of", (condition,)), DOCUMENT) is not expected
    assert holds(condition, {}) is False
    assert holds(ConditionGroup("none_of", (condition,)), {}) is True


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (ExistsCondition("x"), "UNDECLARED_FIELD"),
        (NumberCondition("t", "eq", (1.0,)), "WRONG_FIELD_TYPE"),
        (NumberCondition("n", "between", (1.0,)), "BAD_CONDITION"),
        (NumberCondition("n", "eq", (float("nan"),)), "BAD_CONDITION"),
        (TagCondition("t", ()), "BAD_CONDITION"),
        (TextCondition("w", "…"), "BAD_CONDITION"),
        (GeoCondition("g", GeoPoint(91, 0), 1.0), "BAD_CONDITION"),
        (GeoCondition("g", GeoPoint(0, 0), -1.0), "BAD_CONDITION"),
        (
            ConditionGroup("any_of", tuple(ExistsCondition("n") for _ in range(3000))),
            "FILTER_TOO_LARGE",
        ),
    ],
)
def test_invalid_filters_are_refused(condition: Condition, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_filter(condition, FIELDS, "filter")
    assert caught.value.reason == reason


def test_groups_nest() -> None:
    cat, dog = TagCondition("t", ("a",)), TagCondition("t", ("x",))
    assert holds(ConditionGroup("any_of", (dog, cat)), DOCUMENT)
    assert not holds(ConditionGroup("all_of", (dog, cat)), DOCUMENT)
    neither = ConditionGroup("none_of", (dog, ConditionGroup("none_of", (cat,))))
    assert holds(neither, DOCUMENT)


def test_empty_groups_follow_logic() -> None:
    assert holds(ConditionGroup("all_of", ()), {})
    assert holds(ConditionGroup("none_of", ()), {})
    assert not holds(ConditionGroup("any_of", ()), {})


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("lt", 5.0, False),
        ("lt", 5.5, True),
        ("le", 5.0, True),
        ("gt", 5.0, False),
        ("ge", 5.0, True),
    ],
)
def test_comparisons_at_the_bound(op: str, value: float, expected: bool) -> None:
    assert holds(NumberCondition("n", op, (value,)), DOCUMENT) is expected


def test_a_filter_can_be_as_deep_as_the_limit_and_no_deeper() -> None:
    condition: Condition = ExistsCondition("n")
    for _ in range(MAX_DEPTH):
        condition = ConditionGroup("none_of", (condition,))
    check_filter(condition, FIELDS, "filter")
    with pytest.raises(InvalidArgument) as caught:
        check_filter(ConditionGroup("all_of", (condition,)), FIELDS, "filter")
    assert (caught.value.reason, caught.value.field) == ("FILTER_TOO_DEEP", "filter")


def test_points_are_on_earth_within_their_range() -> None:
    assert GeoPoint(90, -180).is_on_earth()
    assert not GeoPoint(90.1, 0).is_on_earth()
    assert not GeoPoint(0, 180.1).is_on_earth()
    assert GeoPoint(0, 90).unit_vector() == pytest.approx((0, 1, 0), abs=1e-12)
