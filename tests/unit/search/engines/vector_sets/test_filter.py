"""Expressions are evaluated as Python, which they are except for the dots before attributes."""

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.search.engines.vector_sets.filter import (
    compile_filter,
    dump_attributes,
    number_literal,
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
    Value,
    holds,
)

FIELDS = {"n": "number", "t": "tag", "w": "text", "g": "geo"}
HOSTILE = ['"', "\\", "' or 1 == 1", ".e", "a b", "\0", "ä", "x" * 10_000]
NUMBERS = st.one_of(
    st.integers(-2, 2).map(float),
    st.sampled_from([0.1, -0.1, 1e-300, 1e300, -1e17, 123456789.123456789, 5e-324]),
)
TAGS = st.sampled_from(["a", "A", 'q"', "x" * 40])
POINTS = st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180))
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "n": NUMBERS,
        "t": st.one_of(TAGS, st.lists(TAGS, max_size=3).map(tuple)),
        "w": st.sampled_from(["cat", "Dog cat", "bird"]),
        "g": POINTS,
    },
)
LEAVES = st.one_of(
    st.builds(
        lambda op, value: NumberCondition("n", op, (value,)),
        st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "in"]),
        NUMBERS,
    ),
    st.lists(NUMBERS, min_size=2, max_size=2).map(
        lambda pair: NumberCondition("n", "between", tuple(sorted(pair)))
    ),
    st.lists(TAGS, min_size=1, max_size=2).map(lambda tags: TagCondition("t", tuple(tags))),
    st.sampled_from(["cat", "dog CAT"]).map(lambda text: TextCondition("w", text)),
    st.builds(lambda centre, radius: GeoCondition("g", centre, radius), POINTS, st.floats(0, 2e7)),
    st.sampled_from("ntwg").map(ExistsCondition),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda kind, members: ConditionGroup(kind, tuple(members)),
        st.sampled_from(["all_of", "any_of", "none_of"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=5,
)


def meets(condition: Condition, fields: dict[str, Value]) -> bool:
    expression = compile_filter(condition, FIELDS, expiring=False)
    attributes = json.loads(dump_attributes(fields, FIELDS, 0))
    return bool(eval(re.sub(r"\.([a-z]\d*)", r'a["\1"]', expression), {"a": attributes}))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(fields=DOCUMENTS, condition=CONDITIONS)
def test_expressions_mean_what_the_filter_means(
    fields: dict[str, Any], condition: Condition
) -> None:
    assert meets(condition, fields) is holds(condition, fields)


def test_attributes_have_placeholders_for_missing_values() -> None:
    assert json.loads(dump_attributes({"t": "a"}, FIELDS, 7)) == {
        "e": 7,
        "h0": 0,
        "n0": 0,
        "h1": 1,
        "t1": ["-", "x61"],
        "h2": 0,
        "t2": ["-"],
        "h3": 0,
        "x3": 0,
        "y3": 0,
        "z3": 0,
    }


@pytest.mark.parametrize("value", HOSTILE)
def test_values_of_callers_appear_as_tokens_only(value: str) -> None:
    expression = compile_filter(TagCondition("t", (value,)), FIELDS, expiring=False)
    assert re.fullmatch(r'\("[xs][0-9a-f]+" in \.t1\)', expression)


@pytest.mark.parametrize(
    "value",
    [0.0, 1.5, -1.5, 1e300, -1e300, 5e-324, 1e-17, 123456789.123456789, math.pi, 2.0**-1074],
)
def test_numbers_are_written_exactly_without_exponents(value: float) -> None:
    literal = number_literal(value)
    assert "e" not in literal
    assert all(len(digits) <= 20 for digits in re.findall(r"[\d.]+", literal))
    assert float(eval(literal)) == value


def test_expired_documents_never_match() -> None:
    assert compile_filter(None, FIELDS, expiring=False) == ""
    expression = compile_filter(ExistsCondition("n"), FIELDS, expiring=True)
    assert re.fullmatch(r"\(\.h0 == 1\) and \(\.e == 0 or \.e > \d{13}\)", expression)
