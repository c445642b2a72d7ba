import time

import pytest

from services.gateway.cache.types import Bound, Context, Entry, Scope, too_old


def entry(age: float, ttl: float) -> Entry:
    return Entry("id", "?", "!", Scope(), "f", {}, time.time() - age, ttl)


@pytest.mark.parametrize(
    ("age", "ttl", "bound", "old"),
    [
        (5, 10, Bound(), False),
        (15, 10, Bound(), True),
        (15, 10, Bound(stale=10), False),
        (25, 10, Bound(stale=10), True),
        (10**6, 0, Bound(), False),  # kept for good
        (5, 10, Bound(max_age=3), True),
        (5, 10, Bound(max_age=7), False),
        (15, 10, Bound(max_age=60, stale=10), True),  # who names an age takes nothing stale
        (5, 10, Bound(max_age=0), True),
    ],
)
def test_how_old_an_entry_may_be(age: float, ttl: float, bound: Bound, old: bool) -> None:
    assert too_old(entry(age, ttl), bound) is old


def test_an_entry_is_stale_past_its_time() -> None:
    assert [entry(age, ttl).is_stale for age, ttl in ((5, 10), (15, 10), (15, 0))] == [
        False,
        True,
        False,
    ]


def test_every_part_of_a_context_has_its_digest() -> None:
    one, other = Context(model="a", tools=["x"]), Context(model="b", tools=["x"])
    assert set(one.parts) == set(Context.__dataclass_fields__)
    assert [name for name in one.parts if one.parts[name] != other.parts[name]] == ["model"]
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == Context(model="a", tools=["x"]).fingerprint
