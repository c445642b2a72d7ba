"""The filter tree in the Query Engine's dialect."""

import re

import pytest

from services.search.engines.query_engine.filter import (
    attributes,
    compile_filter,
    hash_fields,
    is_loose,
)
from services.search.filters import (
    Condition,
    Exists,
    Geo,
    Group,
    Number,
    Place,
    Tag,
    Text,
)

FIELDS = {"year": "number", "kind": "tag", "tale": "text", "place": "geo"}
HOSTILE = ['"', "}", "{a|b}", "a,b", "-", "\\", "\x1f", "@h:{all}", "ä ö", "x" * 10_000, "'; --"]


def test_hash_fields_say_what_is_there() -> None:
    found = hash_fields({"year": 1.5, "place": Place(0, 0)}, FIELDS, 7)
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
    few = attributes({"year": "number"}, words=True)
    many = attributes({"year": "number", "kind": "tag"}, words=True)
    assert many[: len(few)] == few
    assert many[len(few) :] == ["t1", "TAG"]


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_that_a_caller_says_is_pasted(value: str) -> None:
    for condition in (Tag("kind", (value,)), Text("tale", value + " a")):
        expression = compile_filter(condition, FIELDS, expiring=False)
        tokens = re.findall(r"@t\d:\{([^}]*)\}", expression)
        assert tokens
        assert all(re.fullmatch(r"[0-9a-z|]+", token) for token in tokens)
        rest = re.sub(r"@t\d:\{[0-9a-z|]+\}", "", expression)
        assert re.fullmatch(r"[ ()=>{}$weight:0]*", rest), rest


def test_only_circles_are_loose() -> None:
    circle: Condition = Geo("place", Place(0, 0), 10.0)
    exact: Condition = Number("year", "eq", (1.0,))
    assert is_loose(circle)
    assert is_loose(Group("none_of", (Group("all_of", (exact, circle)),)))
    assert not is_loose(Group("any_of", (exact, Exists("kind"))))
    assert not is_loose(None)


def test_what_has_expired_meets_nothing() -> None:
    assert compile_filter(None, FIELDS, expiring=False) == ""
    assert "@e:[0 0]" in compile_filter(None, FIELDS, expiring=True)


def test_empty_groups_are_what_logic_says() -> None:
    """All of nothing holds for every document, any of nothing for none."""
    every = compile_filter(Group("all_of", ()), FIELDS, expiring=False)
    none = compile_filter(Group("any_of", ()), FIELDS, expiring=False)
    assert "@h:{all}" in every
    assert "@h:{none}" in none
    assert compile_filter(Group("none_of", ()), FIELDS, expiring=False) == every
