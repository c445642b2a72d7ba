import json
import time
from dataclasses import asdict, replace

import pytest

from services.errors import InvalidArgument
from services.gateway.cache import types
from services.gateway.cache.types import Bound, Context, Entry, NewEntry, Request, Scope


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    return 1_000_000.0


def entry(age: float, ttl: float) -> Entry:
    return Entry("id", "?", "!", Scope(), "f", {}, time.time() - age, ttl)


@pytest.mark.parametrize(
    ("age", "ttl", "bound", "too_old"),
    [
        (5, 10, Bound(), False),
        (15, 10, Bound(), True),
        (15, 10, Bound(max_stale=10), False),
        (25, 10, Bound(max_stale=10), True),
        (900_000, 0, Bound(), False),  # no time to live
        (5, 10, Bound(max_age=3), True),
        (5, 10, Bound(max_age=7), False),
        (15, 10, Bound(max_age=60, max_stale=10), True),  # max_age excludes stale entries
        (5, 10, Bound(max_age=0), True),
    ],
)
def test_the_bound_limits_the_age(age: float, ttl: float, bound: Bound, too_old: bool) -> None:
    assert entry(age, ttl).is_too_old(bound) is too_old


def test_an_entry_is_stale_past_its_time_to_live() -> None:
    entries = [entry(age, ttl) for age, ttl in ((5, 10), (15, 10), (15, 0))]
    assert [one.is_stale for one in entries] == [False, True, False]


def test_a_clock_that_ran_backwards_gives_no_negative_age() -> None:
    assert entry(-5, 10).age == 0


def test_an_entry_survives_its_record() -> None:
    one = Entry("id", "?", "!", Scope("t", "u", "n"), "f", {"model": "m"}, 1.0, 2.0, cites=["c"])
    assert Entry.from_record(json.loads(json.dumps(asdict(one)))) == one


def test_what_redis_holds_is_readable_by_the_first_version() -> None:
    """Gateways of that version fail on an entry with another field."""
    record = asdict(entry(0, 0))
    assert set(record) == {
        "id",
        "prompt",
        "response",
        "scope",
        "fingerprint",
        "parts",
        "created_at",
        "ttl",
        "cites",
        "usage",
        "detail",
        "vector",
        "digest",
        "seconds",
    }


def test_fields_of_another_version_are_ignored() -> None:
    one = entry(0, 0)
    assert Entry.from_record(asdict(one) | {"unread": [0, 1], "of_a_later_version": {}}) == one


def test_a_reading_belongs_to_the_model_of_the_vector() -> None:
    reading = {"digest": "d", "unread": [0, 1]}
    one = replace(entry(0, 0), digest="d", detail={types.READING: reading})
    assert one.unread == [0, 1]
    assert replace(one, digest="another").unread is None
    assert replace(one, detail={}).unread is None


def test_every_part_of_a_context_has_its_digest() -> None:
    one, other = Context(model="a", tools=["x"]), Context(model="b", tools=["x"])
    assert set(one.parts) == set(Context.__dataclass_fields__)
    assert [name for name in one.parts if one.parts[name] != other.parts[name]] == ["model"]
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == Context(model="a", tools=["x"]).fingerprint


def request(prompt: str, *history: tuple[str, str]) -> Request:
    return Request(Scope(), Context(history=list(history)), prompt)


def test_a_prompt_is_embedded_with_the_messages_before_it() -> None:
    assert request("And in Paris?").embedding_text == "And in Paris?"
    assert request("four", ("user", "three")).embedding_text == "three\nfour"


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [(" \n", "EMPTY_PROMPT"), ("é" * (types.MAX_PROMPT_BYTES // 2 + 1), "PROMPT_TOO_LONG")],
)
def test_bad_prompts_are_rejected(prompt: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        request(prompt).validate()
    assert caught.value.reason == reason
    request("é" * (types.MAX_PROMPT_BYTES // 2)).validate()


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (NewEntry(""), "EMPTY_RESPONSE"),
        (NewEntry("x" * (types.MAX_RESPONSE_BYTES + 1)), "RESPONSE_TOO_LONG"),
        (NewEntry("x", ttl=-1), "BAD_TTL"),
        (NewEntry("x", ttl=float("nan")), "BAD_TTL"),
        (NewEntry("x", ttl=types.MAX_TTL), "BAD_TTL"),
    ],
)
def test_bad_responses_are_rejected(new: NewEntry, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        new.validate()
    assert caught.value.reason == reason
    NewEntry("x", ttl=1).validate()
