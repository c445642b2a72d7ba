import pytest

from services.errors import InvalidArgument
from services.search.filters import (
    Condition,
    Exists,
    Geo,
    Group,
    Number,
    Place,
    Tag,
    Text,
    Value,
    check,
    holds,
)

FIELDS = {"n": "number", "t": "tag", "w": "text", "g": "geo"}
DOCUMENT: dict[str, Value] = {
    "n": 5.0,
    "t": ("a", "b"),
    "w": "The quick Fox",
    "g": Place(52.5, 13.4),
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Number("n", "eq", (5.0,)), True),
        (Number("n", "ne", (5.0,)), False),
        (Number("n", "between", (5.0, 6.0)), True),
        (Number("n", "in", (1.0, 2.0)), False),
        (Tag("t", ("b", "x")), True),
        (Tag("t", ("A",)), False),
        (Text("w", "fox QUICK"), True),
        (Text("w", "dog"), False),
        (Geo("g", Place(48.1, 11.6), 600_000.0), True),
        (Geo("g", Place(48.1, 11.6), 400_000.0), False),
        (Exists("n"), True),
    ],
)
def test_conditions(condition: Condition, expected: bool) -> None:
    assert holds(condition, DOCUMENT) is expected
    assert holds(Group("none_of", (condition,)), DOCUMENT) is not expected
    assert holds(condition, {}) is False
    assert holds(Group("none_of", (condition,)), {}) is True


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (Exists("x"), "UNDECLARED_FIELD"),
        (Number("t", "eq", (1.0,)), "WRONG_FIELD_TYPE"),
        (Number("n", "between", (1.0,)), "BAD_CONDITION"),
        (Number("n", "eq", (float("nan"),)), "BAD_CONDITION"),
        (Tag("t", ()), "BAD_CONDITION"),
        (Text("w", "…"), "BAD_CONDITION"),
        (Geo("g", Place(91, 0), 1.0), "BAD_CONDITION"),
        (Geo("g", Place(0, 0), -1.0), "BAD_CONDITION"),
        (Group("any_of", tuple(Exists("n") for _ in range(3000))), "FILTER_TOO_LARGE"),
    ],
)
def test_what_makes_no_sense_is_refused(condition: Condition, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(condition, FIELDS, "filter")
    assert caught.value.reason == reason
