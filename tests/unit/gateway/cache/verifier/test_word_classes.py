import pytest

from services.gateway.cache.verifier.word_classes import (
    class_members,
    differing_class,
    members_of,
)


def difference(one: str, other: str) -> str:
    left, right = class_members(one.split()), class_members(other.split())
    found = differing_class(left, right)
    assert bool(found) is bool(differing_class(right, left))
    return found


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("open on mon", "open on tuesday", "weekday"),
        ("orders in march", "orders in may", "month"),
        ("the 2nd amendment", "the fourth amendment", "ordinal"),
        ("the 21st century", "the 22nd century", "ordinal"),
        ("a small pizza", "a large pizza", "size"),
        ("distance in kilometres", "distance in miles", "unit"),
        ("10km", "10mi", "unit"),
        ("20 c", "20 f", "unit"),
        ("at 9 am", "at 9 pm", "half of the day"),
        ("sales this month", "sales last month", "relative"),
        ("before january", "since january", "order"),
        ("coffee with sugar", "coffee with no sugar", "company"),
        ("sign in", "sign out", "entering"),
        ("items in stock", "items out of stock", "entering"),
        ("next week's menu", "last week's menu", "relative"),
        ("chapter i", "chapter ii", "label"),
        ("vitamin c", "vitamin d", "label"),
        ("sort in python", "sort in ruby", "programming language"),
        ("export to pdf", "export to docx", "file format"),
        ("left left right", "left right right", "direction"),
    ],
)
def test_members_of_one_class_are_told_apart(one: str, other: str, name: str) -> None:
    assert difference(one, other) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("open on monday", "open on mondays"),
        ("open on monday", "open"),  # one text has no member
        ("may i come in march", "can i come in march"),
        ("without sugar", "with no sugar"),
        ("10 kilometres", "10 km"),
        ("this week", "this is next"),
        ("india's history", "history of india"),
    ],
)
def test_other_texts_have_no_differing_class(one: str, other: str) -> None:
    assert difference(one, other) == ""


def test_a_word_may_belong_to_several_classes() -> None:
    assert {name for name, _ in members_of("sun")} == {"weekday", "planet"}
    assert members_of("feet") == [("unit", "foot")]
    assert members_of("banana") == []
